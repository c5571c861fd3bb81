"""Checksums of fields that do not depend on the order of samples: what went into a dataset against what comes out of it.

The checksum of a field is the sum, modulo 2**128, over all samples of XXH3-128 (big-endian) of::

    key     the 16 bytes of the sample key
    kind    "n" for a null (nothing follows), "s" a string, "b" bytes or an encoded picture, "a" numbers
    head    of numbers alone: NumPy's `dtype.str`, little-endian, and the shape, as "<f4(2, 3)", and a zero byte
    value   UTF-8; the bytes; numbers in C order, little-endian

so a value that is lost, changed, or put to another sample changes it. Values as read come from Arrow and `numpy.load`, those of
the dataset from its own reader.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from shardwright.format.batch import mask_name
from shardwright.format.layout import KEY
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import Field, Schema

_MODULUS = 2**128
_MAGIC = b"\x93NUMPY"


class FieldChecksums:
    """The checksums of the fields of a schema, over samples that come in batches."""

    def __init__(self, schema: Schema, sums: Mapping[str, int] | None = None) -> None:
        self.sums = dict.fromkeys(schema.names, 0) | dict(sums or {})
        self._schema = schema

    def add_read(self, batch: pa.RecordBatch, keys: pa.Array) -> None:
        """Take samples in as a source reads them, one column a field; `keys` is their `_key` column."""
        for field in self._schema:
            self._add(field, fixed_bytes(keys), values_as_read(field, batch[field.name]))

    def add_decoded(self, batch: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take samples in as `Dataset.take` gives them, with `_key`, pictures encoded."""
        for field in self._schema:
            self._add(field, batch[KEY], _decoded(field, batch))

    def merge(self, sums: Mapping[str, int]) -> None:
        """Take in the sums of other samples."""
        self.sums = add_sums(self.sums, sums)

    def _add(self, field: Field, keys: npt.NDArray[np.uint8], values: Iterator[Any]) -> None:
        digest = xxhash.xxh3_128_intdigest
        total = sum(digest(key.tobytes() + _canonical(field, value)) for key, value in zip(keys, values, strict=True))
        self.sums[field.name] = (self.sums[field.name] + total) % _MODULUS


def add_sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The checksums of all samples, from those of two halves."""
    return {name: (one.get(name, 0) + other.get(name, 0)) % _MODULUS for name in {**one, **other}}


def show_sums(sums: Mapping[str, int]) -> dict[str, str]:
    """Checksums as 32 hexadecimal digits."""
    return {name: f"{value:032x}" for name, value in sums.items()}


def values_as_read(field: Field, column: pa.Array) -> Iterator[Any]:
    """The values of a column as read: bytes of strings and pictures, NumPy values of the field's dtype, None for a null."""
    if pa.types.is_null(column.type):
        return iter([None] * len(column))
    if field.is_image or field.dtype in ("string", "bytes"):
        return iter(column.cast(pa.binary()).to_pylist())
    if field.shape:
        return (None if not value.is_valid else _array(field, value.as_py()) for value in column)
    if field.dtype == "timestamp":
        numbers = column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
    else:
        numbers = column.fill_null(False if pa.types.is_boolean(column.type) else 0).to_numpy(zero_copy_only=False)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    with np.errstate(all="ignore"):  # what does not fit is rejected elsewhere
        numbers = numbers.astype(field.numpy_dtype)
    return (value if good else None for value, good in zip(numbers, valid, strict=True))


def _array(field: Field, value: bytes | list[Any]) -> npt.NDArray[Any]:
    if isinstance(value, bytes) and value.startswith(_MAGIC):
        loaded: npt.NDArray[Any] = np.load(io.BytesIO(value), allow_pickle=False)
        return loaded
    array = np.frombuffer(value, field.numpy_dtype) if isinstance(value, bytes) else np.array(value, field.numpy_dtype)
    return array if None in field.shape else array.reshape([size or 0 for size in field.shape])


def _decoded(field: Field, batch: Mapping[str, npt.NDArray[Any]]) -> Iterator[Any]:
    values = batch[field.name]
    missing = batch.get(mask_name(field.name)) if field.nullable else None
    if missing is None:
        missing = np.isnat(values) if values.dtype.kind == "M" else np.zeros(len(values), bool)
    return (None if gone else value for value, gone in zip(values, missing, strict=True))


def _canonical(field: Field, value: Any) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, str):
        return b"s" + value.encode()
    if isinstance(value, bytes):
        return (b"s" if field.dtype == "string" else b"b") + value
    array = np.ascontiguousarray(value, np.asarray(value).dtype.newbyteorder("<")).reshape(np.shape(value))
    return f"a{array.dtype.str}{array.shape}\0".encode() + array.tobytes()
