"""Checksums of fields that depend on no order: that no sample was lost or changed on its way into a dataset, shown.

The checksum of a field is the sum, modulo 2^128, of XXH3-128 of the canonical bytes (`hashing.sample_key`) of each sample's
value; that of the rows the sum of XXH3-128 of each sample's field digests one after the other, so values can't have changed
places.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from shardwright.hashing.sample_key import KeyColumn
from shardwright.schema import Field, Schema

ROWS = "_rows"
"""The name of the checksum of whole rows."""
_MODULUS = 2**128
_NPY = b"\x93NUMPY"


@dataclass
class Checksums:
    """Of the samples that were added so far; sums of parts are those of the whole."""

    samples: int = 0
    sums: dict[str, int] = field(default_factory=dict)

    def add(self, schema: Schema, values: Mapping[str, Sequence[Any]]) -> None:
        """Samples, by field: None, `bytes` of pictures, `str`, numbers, arrays; timestamps as microseconds since 1970."""
        digests = [_digests(one, values[one.name]) for one in schema]
        rows = [xxhash.xxh3_128_digest(b"".join(row)) for row in zip(*digests, strict=True)]
        for name, found in zip((*schema.names, ROWS), (*digests, rows), strict=True):
            total = sum(int.from_bytes(digest, "big") for digest in found)
            self.sums[name] = (self.sums.get(name, 0) + total) % _MODULUS
        self.samples += len(rows)

    def merge(self, other: Checksums) -> None:
        """Add those of other samples."""
        for name, value in other.sums.items():
            self.sums[name] = (self.sums.get(name, 0) + value) % _MODULUS
        self.samples += other.samples

    def to_json(self) -> dict[str, Any]:
        """The number of samples, and the sums as 32 hexadecimal digits."""
        return {"samples": self.samples, "sums": {name: f"{value:032x}" for name, value in sorted(self.sums.items())}}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Checksums:
        """What `to_json` gave."""
        return cls(int(found["samples"]), {name: int(value, 16) for name, value in found["sums"].items()})


def as_read(field: Field, column: pa.Array) -> list[Any]:
    """The values of a column as a source reads it, for `Checksums.add`."""
    if field.is_image or field.dtype == "bytes":
        return list(column.cast(pa.large_binary()).to_pylist())
    if field.dtype == "string":
        return list(column.cast(pa.large_string()).to_pylist())
    if field.dtype == "timestamp":
        return list(column.cast(pa.timestamp("us")).cast(pa.int64()).to_pylist())
    if not field.shape:
        return list(column.to_pylist())
    return [None if value is None else _array(field, value) for value in column.to_pylist()]


def _array(field: Field, value: Any) -> Any:
    """A `numpy.save` cell, C-order bytes, or a list."""
    if not isinstance(value, bytes):
        return np.asarray(value, field.dtype)
    if value.startswith(_NPY):
        return np.lib.format.read_array(io.BytesIO(value), allow_pickle=False)
    return np.frombuffer(value, field.numpy_dtype).reshape([size or 0 for size in field.shape])


def _digests(field: Field, values: Sequence[Any]) -> list[bytes]:
    if field.is_image or field.dtype in ("string", "bytes"):
        coded = [value.encode() if isinstance(value, str) else value for value in values]
        column = KeyColumn(values=coded, tag="str" if field.dtype == "string" else "bytes")
    else:
        dtype = np.dtype("<i8") if field.dtype == "timestamp" else field.numpy_dtype
        arrays = [None if value is None else np.asarray(value).astype(dtype) for value in values]
        shapes = [() if array is None else array.shape for array in arrays]
        column = KeyColumn(
            values=[None if array is None else array.tobytes() for array in arrays], tag=dtype.str, shapes=shapes
        )
    return [xxhash.xxh3_128_digest(canonical) for canonical in column.canonical()]
