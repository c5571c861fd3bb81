"""How each field is stored in a part, and the names of files.

A column is *fixed* (PLAIN, uncompressed, required values of one width: value i of an extent lies at offset + i * stride),
*ranges* (PLAIN, uncompressed, required BYTE_ARRAY, with first and past-the-end byte of each value in a side file) or
*compressed* (any other: read by row group).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from shardwright.codecs import value_header
from shardwright.format.compression import ZSTD, ColumnCodec
from shardwright.hashing import KEY_BYTES
from shardwright.schema import NUMBERS, Field, Schema

KEY = "_key"
PAD = "_pad"
INDEX = "_index.parquet"
MANIFEST = "_manifest.json"
LATEST = "_LATEST"
LOCK = "_LOCK"
STAGING = "_staging"
EXPIRED = "expired-"
"""What the names of directories in `_staging` begin with that were versions, and wait to be deleted."""
QUARANTINE = "_quarantine"
CARRY = "_carry"
SUMS = "_SHA256SUMS"
COMMON_METADATA = "_common_metadata"
SHARD_METADATA = "_petastorm"

_DISK_DTYPE = {"uint8": "int16", "uint16": "int32", "uint32": "int64", "float16": "float32"}
"""Numbers that stock Petastorm needs in a wider type."""
_PHYSICAL_DTYPE = {
    "int8": "<i4",
    "int16": "<i4",
    "int32": "<i4",
    "int64": "<i8",
    "uint64": "<u8",
    "float32": "<f4",
    "float64": "<f8",
}
"""Parquet's physical type of an Arrow number: what lies in the bytes of a PLAIN page."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a part."""

    name: str
    arrow_type: pa.DataType
    kind: Literal["fixed", "ranges", "compressed"]
    nullable: bool = False
    header: bytes = b""
    """What precedes the data in each value of a fixed array: the constant `numpy.save` header, or nothing."""
    stride: int = 0
    """Bytes of one value of a fixed column on disk, header included."""
    physical_dtype: str | None = None
    """The NumPy dtype of a fixed number's bytes on disk; None for arrays."""
    codec: ColumnCodec = ZSTD
    """How Parquet compresses a compressed column."""

    @property
    def arrow_field(self) -> pa.Field:
        """The Arrow field of this column in a part."""
        return pa.field(self.name, self.arrow_type, nullable=self.nullable)


KEY_COLUMN = Column(name=KEY, arrow_type=pa.binary(KEY_BYTES), kind="fixed", stride=KEY_BYTES)
PAD_COLUMN = Column(name=PAD, arrow_type=pa.bool_(), kind="compressed")


def columns(
    schema: Schema, *, compressed: Mapping[str, ColumnCodec] | None = None, default: ColumnCodec = ZSTD, pad: bool = False
) -> tuple[Column, ...]:
    """The columns of a part: the fields in order, `_key`, and `_pad` where `pad`.

    Parquet compresses the fields named in `compressed`, which can't be addressed by offset then (but with the codec
    ``none`` they can), and with `default` all others that can't be.
    """
    chosen = compressed or {}
    out = []
    for field in schema:
        codec = chosen.get(field.name)
        stored = column(field, compressed=codec is not None and codec.name != "none")
        out.append(replace(stored, codec=codec or default))
    return (*out, KEY_COLUMN, *([replace(PAD_COLUMN, codec=default)] if pad else []))


def column(field: Field, *, compressed: bool = False) -> Column:
    """How one field is stored; `compressed`: by Parquet, although its values could be addressed by offset."""
    if field.fixed and not field.nullable:
        header = value_header(field)
        stride = len(header) + field.stored_nbytes
        kind: Literal["fixed", "compressed"] = "compressed" if compressed else "fixed"
        return Column(name=field.name, arrow_type=pa.binary(stride), kind=kind, header=header, stride=stride)
    if field.shape:
        ranges = field.encoded and not field.nullable and not compressed
        return Column(
            name=field.name, arrow_type=pa.binary(), kind="ranges" if ranges else "compressed", nullable=field.nullable
        )
    if field.dtype in NUMBERS:
        disk = _DISK_DTYPE.get(field.dtype, field.dtype)
        kind = "compressed" if compressed or field.nullable else "fixed"
        physical = np.dtype(_PHYSICAL_DTYPE[disk])
        return Column(
            name=field.name, arrow_type=pa.type_for_alias(disk), kind=kind, nullable=field.nullable,
            stride=physical.itemsize, physical_dtype=physical.str,
        )  # fmt: skip
    return Column(name=field.name, arrow_type=_NATIVE[field.dtype], kind="compressed", nullable=field.nullable)


_NATIVE: dict[str, Any] = {
    "bool": pa.bool_(), "string": pa.string(), "bytes": pa.binary(), "timestamp": pa.timestamp("us"),
}  # fmt: skip


def sample_type(field: Field) -> pa.DataType:
    """The Arrow type of a field's values between stages.

    Fixed arrays as their stored bytes without a header (C order, unless their codec has another form), ragged arrays as
    `numpy.save` cells, pictures as their encoded bytes, everything else as itself.
    """
    if field.fixed and not field.nullable:
        return pa.binary(field.stored_nbytes)
    if field.shape:
        return pa.binary()
    if field.dtype in NUMBERS:
        return pa.type_for_alias(field.dtype)
    return _NATIVE[field.dtype]


def version_name(number: int) -> str:
    """The name of a version: v000001, …."""
    return f"v{number:06d}"


def version_number(name: str) -> int | None:
    """The number in a version's name, or None when it is no version."""
    digits = name[1:]
    return int(digits) if name[:1] == "v" and len(digits) >= 6 and digits.isascii() and digits.isdigit() else None


def shard_name(shard: int) -> str:
    """The name of a shard's directory: shard=00000, …: a hive partition directory."""
    return f"shard={shard:05d}"


def part_name(part: int) -> str:
    """The name of a part: part-00000.parquet, …."""
    return f"part-{part:05d}.parquet"


def ranges_name(part: int, field: str) -> str:
    """The side file beside a part that holds the byte ranges of `field`."""
    return f"_part-{part:05d}.{field}.npy"
