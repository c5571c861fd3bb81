"""What the values of a field are in a batch of NumPy arrays: one answer for loaders and for functions of a team's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.codecs import encode_npy
from shardwright.codecs.arrays import cast_numbers
from shardwright.errors import EncodeError
from shardwright.format.values import unpack
from shardwright.schema import Field, Schema

Array = npt.NDArray[Any]


def mask_name(name: str) -> str:
    """The array that says which values of a nullable number or array of one shape are missing."""
    return f"{name}_mask"


def is_masked(field: Field) -> bool:
    """Whether a mask says which values are missing; of the other nullable fields these are None."""
    return field.nullable and field.dtype not in ("string", "bytes") and None not in field.shape


def to_arrays(field: Field, values: pa.Array) -> dict[str, Array]:
    """The typed array of `values` and, where a mask belongs to it, a bool array `mask_name`: True where missing.

    `values` are in `layout.sample_type`, or stored cells. Raises DecodeError.
    """
    arrays = {field.name: _decode(field, values)}
    if is_masked(field):
        arrays[mask_name(field.name)] = to_numpy(values.is_null())
    return arrays


def each_sample(schema: Schema, batch: Mapping[str, Array]) -> Iterator[list[tuple[Field, Any]]]:
    """The fields and values of each sample of a batch, in schema order, without those that are missing."""
    columns = [(field, batch[field.name], batch.get(mask_name(field.name))) for field in schema]
    for row in range(len(columns[0][1])):
        found = [(field, values[row]) for field, values, mask in columns if mask is None or not mask[row]]
        yield [(field, value) for field, value in found if value is not None]


def from_array(field: Field, array: Array, mask: Array | None = None) -> pa.Array:
    """An array of a batch as an Arrow column as read, to be checked as one: `mask`, bool (n,), says what is missing.

    Numbers may be of another dtype: the check says whether the field can hold them. Raises EncodeError for another shape or
    kind.
    """
    if field.is_image or field.dtype in ("string", "bytes"):
        return _objects(field, array)
    if None in field.shape:
        return pa.array([None if value is None else _cell(field, value) for value in array], pa.binary())
    sizes = tuple(size or 0 for size in field.shape)
    if array.dtype.kind not in ("M" if field.dtype == "timestamp" else "biuf") or array.shape[1:] != sizes:
        raise EncodeError(f"expected {_expected(field)} in {field.name!r}, found {show(array)}")
    if field.dtype == "timestamp":
        known = np.datetime_data(array.dtype)[0] in ("s", "ms", "us", "ns")
        return pa.array(array if known else array.astype("M8[us]"), mask=mask)
    values = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not sizes:
        return pa.array(values, mask=mask)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    nulls = None if mask is None else pa.array(mask)
    return pa.FixedSizeListArray.from_arrays(flat, math.prod(sizes), mask=nulls)


def show(array: Array) -> str:
    """Dtype and shape as messages have them, of an array with one row a sample."""
    rows = ", ".join(["n", *map(str, array.shape[1:])])
    return f"{array.dtype} of shape ({rows}{',' if array.ndim == 1 else ''})"


def stack(field: Field, values: Sequence[Array | None]) -> Array:
    """Values of one declared shape as one array (n, *shape); of several shapes as an object array (n,) of
    arrays, and None where there is none.
    """
    if None not in field.shape:
        out = np.empty((len(values), *(size or 0 for size in field.shape)), field.numpy_dtype)
    else:
        out = np.empty(len(values), object)
    for row, value in enumerate(values):
        out[row] = value
    return out


def to_numpy(values: pa.Array) -> Array:
    """An array that may be written to: Arrow's own memory may not."""
    array: Array = values.to_numpy(zero_copy_only=False)
    return array if array.flags.writeable else array.copy()


def _decode(field: Field, values: pa.Array) -> Array:
    unpacked = unpack(field, values)
    if isinstance(unpacked, np.ndarray):
        return unpacked if unpacked.flags.writeable else unpacked.copy()
    if isinstance(unpacked, list):
        missing = None if None in field.shape else np.zeros([size or 0 for size in field.shape], field.numpy_dtype)
        return stack(field, [missing if value is None else value for value in unpacked])
    if field.dtype in ("string", "bytes"):
        out = np.empty(len(unpacked), object)
        out[:] = unpacked.to_pylist()
        return out
    kind = field.numpy_dtype.kind
    if unpacked.null_count and kind != "M":
        unpacked = unpacked.fill_null({"f": float("nan"), "b": False}.get(kind, 0))
    return to_numpy(unpacked).astype(field.numpy_dtype, copy=False)


def _objects(field: Field, array: Array) -> pa.Array:
    """Strings, bytes and encoded pictures."""
    wanted: type = str if field.dtype == "string" else bytes
    if array.ndim != 1 or array.dtype.kind not in ("OUT" if wanted is str else "O"):
        hint = "; to store arrays, declare the field in map.fields with dtype and shape" if field.is_image else ""
        raise EncodeError(f"expected {_expected(field)} in {field.name!r}, found {show(array)}{hint}")
    values = array.tolist()
    for value in values:
        if value is not None and not isinstance(value, wanted):
            raise EncodeError(f"expected {wanted.__name__} in {field.name!r}, found {type(value).__name__}")
    return pa.array(values, pa.string() if wanted is str else pa.binary())


def _cell(field: Field, value: object) -> bytes:
    """An array with a dimension that varies as a `numpy.save` cell."""
    same = isinstance(value, np.ndarray) and value.ndim == len(field.shape) and value.dtype.kind in "biuf"
    if not isinstance(value, np.ndarray) or not same:
        found = show(value[None]) if isinstance(value, np.ndarray) else type(value).__name__
        raise EncodeError(f"expected {_expected(field)} in {field.name!r}, found {found}")
    numbers, bad = cast_numbers(value.reshape(-1), field)
    if bad:
        raise EncodeError(f"{field.name!r}: {next(iter(bad.values()))}")
    return encode_npy(numbers.reshape(value.shape))


def _expected(field: Field) -> str:
    if field.is_image:
        return "encoded pictures (an object array of bytes)"
    if field.dtype in ("string", "bytes"):
        return f"{field.dtype} (an object array of {'str' if field.dtype == 'string' else 'bytes'})"
    sizes = ", ".join(["n", *("?" if size is None else str(size) for size in field.shape)])
    return f"{field.dtype} of shape ({sizes}{'' if field.shape else ','})"
