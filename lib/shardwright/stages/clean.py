"""Clean: every sample is what its schema declares, or it is rejected with the field and the reason.

What passes is in the types of `layout.sample_type`: fixed arrays as C-order bytes, ragged and nullable ones as `numpy.save`
cells, everything else as itself. Whole columns are checked at once; single samples only where something is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Constraint

from shardwright.codecs import decode_image, encode_npy, probe_image, value_codec
from shardwright.codecs.arrays import NON_FINITE, Array, Bad, cast_numbers, decode_reason, each_value, uniform_block
from shardwright.codecs.image import FORMATS
from shardwright.codecs.npy import show_shape
from shardwright.errors import MissingDependencyError, SchemaError
from shardwright.format.layout import sample_type
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import NUMBERS, Field, Schema, suggest
from shardwright.sources.columns import fits, normal_type
from shardwright.stages import Rejects, without

_Check = Callable[[Array], Bad]
"""Finds the bad rows in values of shape (n, elements)."""


class CleanOptions(BaseModel):
    """What else a sample has to be: table `[clean]` of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    range: dict[str, tuple[int | float, int | float]] = {}
    """Smallest and largest value that a number or an array's elements may have, by field; -inf and inf where there is none."""
    non_finite: Literal["reject", "keep"] = "reject"
    max_rejected: float = Constraint(default=0.01, ge=0, le=1)
    """The share of rejected samples above which the job fails."""
    decode: bool = True
    """Decode every picture to check it, not only its first bytes and its end."""

    @field_validator("range")
    @classmethod
    def _check_range(cls, ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in ranges.items():
            if not low <= high:
                raise ValueError(f"{name}: expected [smallest, largest], found [{low}, {high}]")
        return ranges


class Clean:
    """Checks samples against `schema` and `options`, and brings them into the types of `layout.sample_type`.

    Raises SchemaError for a range of a field that is unknown or has no numbers, and for a field that is encoded at write.
    """

    name = "clean"

    def __init__(self, schema: Schema, options: CleanOptions | None = None) -> None:
        self.schema = schema
        self.options = options or CleanOptions()
        for field in schema:
            if value_codec(field) is not None:
                raise SchemaError(
                    f"field {field.name!r}: values come as arrays or as pictures to keep; how they are encoded at write is "
                    "said in [compress], not by the field's codec"
                )
        for name in self.options.range:
            if name not in schema:
                raise SchemaError(f"clean.range: no field {name!r}; {suggest(name, schema.names)}")
            if schema[name].dtype not in NUMBERS or schema[name].is_image:
                raise SchemaError(f"clean.range: field {name!r} has no range (it holds {_show(schema[name])}); leave it out")

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The samples of `batch` that are what they should be; the rows of the others, each with its first bad field.

        Columns whose names begin with '_' pass through. Never raises for what a sample holds.
        """
        columns: dict[str, pa.Array] = {}
        found: dict[int, tuple[str, str]] = {}
        for field in self.schema:
            columns[field.name], bad = _clean_column(field, batch.column(field.name), self.options)
            for row, reason in bad.items():
                found.setdefault(row, (field.name, reason))
        columns |= {name: batch.column(name) for name in batch.schema.names if name.startswith("_")}
        return without(pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)), found)


def _clean_column(field: Field, array: pa.Array, options: CleanOptions) -> tuple[pa.Array, Bad]:
    """A column in its sample type, with any value in the bad rows."""
    if array.type != sample_type(field):
        array = array.cast(normal_type(array.type))
    nulls: Bad = {}
    if array.null_count and not field.nullable:
        nulls = dict.fromkeys(_where(array.is_null()), "null in a field that is not nullable")
    if not fits(field, array.type):
        wrong = dict.fromkeys(_where(array.is_valid()), f"expected {_show(field)}, found {array.type}")
        return pa.nulls(len(array), sample_type(field)), wrong | nulls
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), sample_type(field)), nulls
    if field.is_image:
        out, bad = _pictures(field, array, options)
    elif field.shape:
        out, bad = _arrays(field, array, _value_check(field, options))
    elif field.dtype == "timestamp":
        out, bad = _timestamps(array)
    elif field.dtype in ("string", "bytes"):
        out, bad = _texts(array, sample_type(field))
    else:
        out, bad = _numbers(field, array, _value_check(field, options))
    return out, bad | nulls


def _show(field: Field) -> str:
    return f"{field.dtype} {show_shape(field.shape)}" if field.shape else field.dtype


def _where(mask: pa.Array | Array) -> list[int]:
    values = mask if isinstance(mask, np.ndarray) else mask.to_numpy(zero_copy_only=False)
    return [int(row) for row in np.flatnonzero(values)]


def _value_check(field: Field, options: CleanOptions) -> _Check | None:
    """The check of a field's range and finiteness; None where no value can be bad, so that no byte is touched."""
    limits = options.range.get(field.name)
    dtype = field.numpy_dtype
    if limits and dtype.kind in "iu" and limits[0] <= np.iinfo(dtype).min and limits[1] >= np.iinfo(dtype).max:
        limits = None
    finite = dtype.kind == "f" and options.non_finite == "reject"
    if not limits and not finite:
        return None

    def check(values: Array) -> Bad:
        bad: Bad = {}
        if limits:
            with np.errstate(over="ignore"):
                outside = (values < limits[0]) | (values > limits[1])
            for row in _where(outside.any(axis=1)):
                bad[row] = f"{values[row][outside[row]][0].item()} is outside [{limits[0]}, {limits[1]}]"
        if finite:
            bad |= dict.fromkeys(_where(~np.isfinite(values).all(axis=1)), NON_FINITE)
        return bad

    return check


def _numbers(field: Field, array: pa.Array, check: _Check | None) -> tuple[pa.Array, Bad]:
    target = sample_type(field)
    if array.type == target and not check:
        return array, {}
    nulls = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    values = array.fill_null(False if pa.types.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)
    numbers, bad = cast_numbers(values, field)
    if check:
        bad = check(numbers.reshape(-1, 1)) | bad
    out = array if array.type == target else pa.array(numbers, target, mask=nulls)
    return out, bad if nulls is None else {row: reason for row, reason in bad.items() if not nulls[row]}


def _arrays(field: Field, array: pa.Array, check: _Check | None) -> tuple[pa.Array, Bad]:
    if sample_type(field) == pa.binary():
        return _cells(field, array, check)
    if array.type == sample_type(field):
        return array, check(fixed_bytes(array).view(field.numpy_dtype)) if check else {}
    bad: Bad = {}
    block = uniform_block(field, array)
    if block is None:
        block = np.zeros((len(array), field.nbytes), np.uint8)
        for row, value in enumerate(each_value(field, array)):
            if isinstance(value, str):
                bad[row] = value
            elif value is not None:
                block[row] = np.frombuffer(np.ascontiguousarray(value, field.numpy_dtype).tobytes(), np.uint8)
    if check:
        bad = check(block.view(field.numpy_dtype)) | bad
    return pa.Array.from_buffers(sample_type(field), len(array), [None, pa.py_buffer(block)]), bad


def _cells(field: Field, array: pa.Array, check: _Check | None) -> tuple[pa.Array, Bad]:
    """Ragged and nullable arrays as `numpy.save` cells."""
    cells: list[bytes | None] = []
    bad: Bad = {}
    for row, value in enumerate(each_value(field, array)):
        problem = value if isinstance(value, str) else None
        if isinstance(value, np.ndarray) and check:
            problem = check(value.reshape(1, -1)).get(0)
        if problem:
            bad[row] = problem
        cells.append(encode_npy(value) if isinstance(value, np.ndarray) else None)
    return pa.array(cells, pa.binary()), bad


def _pictures(field: Field, array: pa.Array, options: CleanOptions) -> tuple[pa.Array, Bad]:
    bad: Bad = {}
    for row, value in enumerate(array):
        problem = _picture_problem(field, value.as_py(), options.decode) if value.is_valid else None
        if problem:
            bad[row] = problem
    return array, bad


def _picture_problem(field: Field, data: bytes, decode: bool) -> str | None:
    kind = probe_image(data)
    if kind is None:
        return f"not a {', '.join(FORMATS)} picture (it begins with {data[:8]!r})"
    if kind == "jpeg" and not _has_end(data):
        return "a jpeg cut short: it has no end marker"
    if not decode:
        return None
    try:
        decode_image(field, data)
    except MissingDependencyError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever hostile bytes make of a decoder, it is the sample that is bad
        return decode_reason(field, error)
    return None


def _has_end(data: bytes) -> bool:
    """Whether a JPEG's scan is followed by the end marker: libjpeg fills a picture that was cut short with grey, silently.

    Segments before the scan are stepped over: a thumbnail in one of them has an end marker of its own.
    """
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        fill = data[place + 1 : place + 2] == b"\xff"  # a marker may have any number of these before it
        place += 1 if fill else 2 + max(int.from_bytes(data[place + 2 : place + 4], "big"), 2)
    return data.find(b"\xff\xd9", place) >= 0


def _texts(array: pa.Array, target: pa.DataType) -> tuple[pa.Array, Bad]:
    """Strings in valid UTF-8, which Parquet files promise and Arrow does not check; or bytes."""
    try:
        out = array.cast(target)
        out.validate(full=True)
    except pa.ArrowInvalid:
        values = [value.as_buffer().to_pybytes() if value.is_valid else None for value in array]
        bad = {row: f"a string that is not UTF-8: {v[:20]!r}" for row, v in enumerate(values) if v and not _is_utf8(v)}
        return pa.array([None if row in bad else v for row, v in enumerate(values)], pa.binary()).cast(target), bad
    return out, {}


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _timestamps(array: pa.Array) -> tuple[pa.Array, Bad]:
    """Microseconds, in UTC where the column has a time zone."""
    target = pa.timestamp("us")
    try:
        return array.cast(target), {}
    except pa.ArrowInvalid:
        ticks = array.cast(pa.int64()).fill_null(0).to_numpy()
    if array.type.unit == "ns":
        wrong, reason = ticks % 1000 != 0, "a time with a fraction of a microsecond"
    else:
        limit = np.iinfo(np.int64).max // {"s": 10**6, "ms": 10**3}[array.type.unit]
        wrong, reason = (ticks > limit) | (ticks < -limit), "a time out of the range of microseconds"
    return pc.if_else(pa.array(wrong), None, array).cast(target), dict.fromkeys(_where(wrong), reason)
