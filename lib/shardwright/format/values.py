"""A column's values between Arrow, where each stage hands them on as bytes, and NumPy, where they are computed with."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.codecs import decode_block, decode_value, encode_block, encode_value
from shardwright.errors import EncodeError
from shardwright.format.layout import Column
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import Field

Array = npt.NDArray[Any]
Values: TypeAlias = pa.Array | Array | list[Array | None]
"""n values of a field: scalars as an Arrow array of the field's own type; arrays of one shape without nulls as one NumPy array
(n, *shape); other arrays and pictures one by one, None for a null."""


def unpack(field: Field, array: pa.Array) -> Values:
    """The values in an Arrow array of stored form, fixed arrays with or without their header."""
    if not field.shape:
        return array
    if field.fixed and not field.nullable:
        header = array.type.byte_width - field.stored_nbytes
        return decode_block(field, fixed_bytes(array)[:, header:])
    return [decode_value(field, value.as_buffer()) if value.is_valid else None for value in array]


def pack(field: Field, values: Values, column: Column) -> pa.Array:
    """The Arrow array of stored form, fixed arrays with the header of `column`.

    Raises EncodeError for a value that the field's codec can't hold.
    """
    if isinstance(values, pa.Array):
        return values
    if not field.fixed or field.nullable:
        return pa.array([None if value is None else encode_value(field, value) for value in values], pa.binary())
    block: Array = np.stack(values) if isinstance(values, list) else values  # type: ignore[arg-type] # no nulls: not nullable
    cells, bad = encode_block(field, block)
    if bad:
        reason = bad[min(bad)]
        raise EncodeError(f"field {field.name!r}: {reason}; choose another codec, or leave such samples out (clean.range)")
    out = np.empty((len(values), column.stride), np.uint8)
    out[:, : len(column.header)] = np.frombuffer(column.header, np.uint8)
    out[:, len(column.header) :] = cells
    return pa.Array.from_buffers(pa.binary(column.stride), len(values), [None, pa.py_buffer(out)])
