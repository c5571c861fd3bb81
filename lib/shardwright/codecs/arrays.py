"""Arrow columns as read (lists, raw bytes, `numpy.save` cells, numbers) as NumPy values of a field, and why a value is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.codecs.npy import decode_npy, npy_header, show_shape
from shardwright.errors import DecodeError
from shardwright.schema import INTEGERS, Field

Array = npt.NDArray[Any]
Bad = dict[int, str]
"""Rows whose value is none of the field's, each with the reason."""

NON_FINITE = "NaN or infinity"

_MAGIC = b"\x93NUMPY"


def cast_numbers(values: Array, field: Field) -> tuple[Array, Bad]:
    """Numbers of shape (n,) in the field's dtype, and which of them it can't hold.

    A number has to stay the same; only floats may be rounded to narrower floats, and not to infinity.
    """
    dtype = field.numpy_dtype
    if values.dtype == dtype or values.dtype.kind == "b":
        return values.astype(dtype, copy=False), {}
    with np.errstate(all="ignore"):
        out = values.astype(dtype)
        if dtype.kind == "f" and values.dtype.kind == "f":
            good = np.isfinite(out) | ~np.isfinite(values)
        elif dtype.kind == "f":
            # what rounds up to 2**63 must not be cast back: C leaves open what that gives
            good = (out < float(np.iinfo(values.dtype).max + 1)) & (out.astype(values.dtype) == values)
        else:
            low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
            below = values < float(high + 1) if values.dtype.kind == "f" else values <= high
            good = (values >= low) & below & (out == values)
    return out, {row: _misfit(values[row].item(), field) for row in np.flatnonzero(~good).tolist()}


def uniform_block(field: Field, array: pa.Array) -> npt.NDArray[np.uint8] | None:
    """The values of a fixed array field, uint8 of shape (n, nbytes) in C order, where all are good and of one form; else None.

    Without a copy for raw bytes and for lists of the field's own dtype; by one copy for `numpy.save` cells.
    """
    if not len(array) or array.null_count:
        return None
    return _uniform_lists(field, array) if pa.types.is_nested(array.type) else _uniform_bytes(field, array)


def each_value(field: Field, array: pa.Array) -> Iterator[Array | str | None]:
    """Each value as an array of the field's dtype and shape, the reason why it is none, or None for a null."""
    if pa.types.is_nested(array.type):
        yield from _each_list(field, array)
    else:
        for value in array:
            yield _decode(field, value.as_py()) if value.is_valid else None


def decode_reason(field: Field, error: Exception) -> str:
    """What a decoder said, without the name of the field."""
    text = str(error) if isinstance(error, DecodeError) else f"can't be decoded ({type(error).__name__}: {error})"
    return text.removeprefix(f"field {field.name!r}: ")


def _misfit(value: int | float, field: Field) -> str:
    if not math.isfinite(value):
        return NON_FINITE
    if field.dtype in INTEGERS:
        low, high = np.iinfo(field.numpy_dtype).min, np.iinfo(field.numpy_dtype).max
        if not low <= value <= high:
            return f"{value} is outside [{low}, {high}]"
    return f"{value} is no {field.dtype}"


def _uniform_bytes(field: Field, array: pa.Array) -> npt.NDArray[np.uint8] | None:
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    width = int(offsets[1] - offsets[0])
    if not width or (np.diff(offsets) != width).any():
        return None
    block = np.frombuffer(array.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, width)
    header = npy_header(field.numpy_dtype.str, _sizes(field))
    if width == len(header) + field.nbytes and (block[:, : len(header)] == np.frombuffer(header, np.uint8)).all():
        return np.ascontiguousarray(block[:, len(header) :])
    magic = np.frombuffer(_MAGIC, np.uint8)
    any_cell = width >= len(magic) and (block[:, : len(magic)] == magic).all(axis=1).any()
    return block if width == field.nbytes and not any_cell else None


def _uniform_lists(field: Field, array: pa.Array) -> npt.NDArray[np.uint8] | None:
    leaves, borders, inner = _leaves(array)
    lengths = np.diff(borders)
    if leaves.null_count or (lengths != lengths[0]).any() or _list_problem(field, (int(lengths[0]), *inner)):
        return None
    values, bad = cast_numbers(leaves.to_numpy(zero_copy_only=False), field)
    return None if bad else np.ascontiguousarray(values).view(np.uint8).reshape(len(array), field.nbytes)


def _decode(field: Field, data: bytes) -> Array | str:
    """The array in raw bytes of the right number, or in a `numpy.save` cell; or the reason why there is none."""
    if data.startswith(_MAGIC):
        try:
            return decode_npy(field, data)
        except Exception as error:  # noqa: BLE001 - whatever hostile bytes make of NumPy's parser, it is the value that is bad
            return decode_reason(field, error)
    shape = show_shape(field.shape)
    if None in field.shape:
        return f"expected a numpy.save cell of shape {shape}, found bytes that begin with {data[:8]!r}"
    if len(data) != field.nbytes:
        return f"expected {field.nbytes} bytes for {field.dtype} {shape}, found {len(data)}"
    return np.frombuffer(data, field.numpy_dtype).reshape(_sizes(field))


def _each_list(field: Field, array: pa.Array) -> Iterator[Array | str | None]:
    leaves, borders, inner = _leaves(array)
    missing = leaves.is_null().to_numpy(zero_copy_only=False)
    values = leaves.fill_null(False if pa.types.is_boolean(leaves.type) else 0).to_numpy(zero_copy_only=False)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    for row, length in enumerate(np.diff(borders).tolist()):
        span = slice(int(borders[row]) * math.prod(inner), int(borders[row + 1]) * math.prod(inner))
        problem = _list_problem(field, (length, *inner)) or ("a null inside the array" if missing[span].any() else None)
        numbers, bad = cast_numbers(values[span], field)
        problem = problem or next(iter(bad.values()), None)
        if not valid[row]:
            yield None
        else:
            yield problem or numbers.reshape((length, *inner) if None in field.shape else _sizes(field))


def _list_problem(field: Field, found: tuple[int, ...]) -> str | None:
    """Why a list of shape `found` is no value of the field; a flat list of all elements in C order is one."""
    if None not in field.shape and found == (math.prod(_sizes(field)),):
        return None
    same = len(found) == len(field.shape) and all(want in (None, size) for want, size in zip(field.shape, found, strict=True))
    return None if same else f"expected shape {show_shape(field.shape)}, found {show_shape(found)}"


def _leaves(array: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64], tuple[int, ...]]:
    """The innermost values of nested lists, the borders of the rows (in inner arrays), and the shape of an inner array."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        borders = np.arange(len(array) + 1, dtype=np.int64) * size
        leaves = array.values.slice(array.offset * size, len(array) * size)
    else:
        offsets = array.offsets.to_numpy().astype(np.int64)
        borders = offsets - offsets[0]
        leaves = array.values.slice(int(offsets[0]), int(borders[-1]))
    inner: list[int] = []
    while pa.types.is_fixed_size_list(leaves.type):
        size = leaves.type.list_size
        inner.append(size)
        child = leaves.values.slice(leaves.offset * size, len(leaves) * size)
        if leaves.null_count:  # what lies below a null is anything
            present = np.repeat(leaves.is_valid().to_numpy(zero_copy_only=False), size)
            child = pc.if_else(pa.array(present), child, None)
        leaves = child
    return leaves, borders, tuple(inner)


def _sizes(field: Field) -> tuple[int, ...]:
    return tuple(size or 0 for size in field.shape)
