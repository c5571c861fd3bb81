"""From the column of a row group to the values of its rows, as Petastorm's `make_reader` hands them out.

Semantics: petastorm 0.13.1, ``utils.decode_row`` over pandas' view of the column, measured value by value: numbers are NumPy
scalars of the field's class, a null is None but in a column of floats, where it is NaN, timestamps are datetime64[us], dates
datetime64[D].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from shardwright.petastorm.codecs import DataframeColumnCodec, ScalarCodec
from shardwright.petastorm.errors import DecodeFieldError
from shardwright.petastorm.unischema import UnischemaField


def decode_column(column: pa.ChunkedArray, field: UnischemaField) -> list[Any]:
    """The value of each row: None, a NumPy scalar, an array, a Decimal.

    Raises DecodeFieldError, with the field's name, for a value that can't be decoded.
    """
    try:
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(field.codec, DataframeColumnCodec) and not isinstance(field.codec, ScalarCodec):
            return _decoded(array, field)
        return _native(array, field.numpy_dtype)
    except Exception as error:
        raise DecodeFieldError(f'Decoding field "{field.name}" failed: {error}') from error


def decode_value(value: Any, field: UnischemaField) -> Any:
    """One value, as Python has it. Raises DecodeFieldError."""
    if value is None:
        return None
    try:
        if isinstance(field.codec, DataframeColumnCodec):
            return field.codec.decode(field, value)
        if isinstance(field.numpy_dtype, type) and issubclass(field.numpy_dtype, (np.generic, Decimal)):
            return field.numpy_dtype(value)
    except Exception as error:
        raise DecodeFieldError(f'Decoding field "{field.name}" failed: {error}') from error
    return value


def repeat_partition(value: Any, field: UnischemaField, count: int) -> list[Any]:
    """The value of a partition column, for each row. Raises DecodeFieldError."""
    try:
        return [field.numpy_dtype(value)] * count
    except Exception as error:
        raise DecodeFieldError(f'Decoding field "{field.name}" failed: partition value {value!r}: {error}') from error


def _decoded(array: pa.Array, field: UnischemaField) -> list[Any]:
    decode: Callable[[Any, Any], Any] = field.codec.decode
    return [None if cell is None else decode(field, cell) for cell in _cells(array)]


def _cells(array: pa.Array) -> Iterator[memoryview | None]:
    """The bytes of each value, in place."""
    if pt.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        data = memoryview(array.buffers()[1])
        bounds: Iterator[tuple[int, int]] = (
            (at * width, (at + 1) * width) for at in range(array.offset, array.offset + len(array))
        )
    else:
        if not pt.is_large_binary(array.type):
            array = array.cast(pa.large_binary())
        _, offsets, values = array.buffers()
        data = memoryview(values) if values is not None else memoryview(b"")
        ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1].tolist()
        bounds = pairwise(ends)
    valid = array.is_valid().to_pylist() if array.null_count else [True] * len(array)
    for there, (start, end) in zip(valid, bounds, strict=True):
        yield data[start:end] if there else None


def _native(array: pa.Array, dtype: Any) -> list[Any]:
    """Values of a column that Parquet holds as such."""
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pt.is_list(array.type) or pt.is_large_list(array.type) or pt.is_fixed_size_list(array.type):
        return [None if values is None else _elements(values.values, dtype) for values in map(_scalar, array)]
    if not (isinstance(dtype, type) and issubclass(dtype, (np.generic, Decimal))):
        return list(array.to_pylist())
    if pt.is_timestamp(array.type) or pt.is_date(array.type):
        return _times(array, dtype)
    if pt.is_floating(array.type) or ((pt.is_integer(array.type) or pt.is_boolean(array.type)) and not array.null_count):
        numbers = array.to_numpy(zero_copy_only=False)
        if issubclass(dtype, (np.number, np.bool_)):
            return list(numbers.astype(dtype))
        return [dtype(value) for value in numbers]
    return [None if value is None else dtype(value) for value in array.to_pylist()]


def _scalar(value: Any) -> Any:
    return value if value.is_valid else None


def _elements(values: pa.Array, dtype: Any) -> Any:
    """A list as a flat array."""
    found = values.to_numpy(zero_copy_only=False)
    if isinstance(dtype, type) and issubclass(dtype, (np.number, np.bool_)):
        return found.astype(dtype)
    return found.copy()


def _times(array: pa.Array, dtype: Any) -> list[Any]:
    """Timestamps in microseconds of UTC, dates in days; None for null."""
    unit = "D" if pt.is_date32(array.type) or pt.is_date64(array.type) else "us"
    if dtype is np.object_:  # what pandas makes of it
        return list(array.to_pandas())
    numbers = array.cast(pa.date32() if unit == "D" else pa.timestamp("us"), safe=False)
    values = pc.fill_null(numbers, pa.scalar(0, pa.int32() if unit == "D" else pa.int64()).cast(numbers.type))
    times = values.to_numpy(zero_copy_only=False).astype(f"datetime64[{unit}]")
    if dtype is not np.datetime64:
        times = np.array([dtype(time) for time in times])
    if not array.null_count:
        return list(times)
    return [time if there else None for time, there in zip(times, array.is_valid().to_pylist(), strict=True)]
