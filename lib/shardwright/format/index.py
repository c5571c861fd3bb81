"""The index of a version, `_index.parquet`: one row per row group, with everything needed to find any value.

A reader needs `_LATEST`, the manifest and this file, however many shards there are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError
from shardwright.format.manifest import FileDigest

_FILE = pa.struct([("name", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])
_EXTENT = pa.struct(
    [("field", pa.string()), ("first", pa.int64()), ("count", pa.int64()), ("offset", pa.int64()), ("stride", pa.int64())]
)
INDEX_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("part", pa.string(), nullable=False),  # relative to the version
        pa.field("row_group", pa.int32(), nullable=False),
        pa.field("first_sample", pa.int64(), nullable=False),  # in the shard
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("extents", pa.list_(_EXTENT), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("side_files", pa.list_(_FILE), nullable=False),  # of the part; the shard's stand with its first row group
    ]
)


@dataclass(frozen=True, kw_only=True)
class Extent:
    """`count` values of `field`, the first of them sample `first` of the row group: value i begins at offset + i * stride.

    The `stride` bytes of an array's value begin with its header. An extent of stride 0 marks a field of varying length, whose
    byte ranges stand in the side file.
    """

    field: str
    first: int
    count: int
    offset: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """One row of the index."""

    split: str
    shard: int
    part: str
    row_group: int
    first_sample: int
    samples: int
    extents: tuple[Extent, ...]
    bytes: int
    sha256: str
    side_files: tuple[FileDigest, ...]


def encode_index(row_groups: Sequence[RowGroup]) -> bytes:
    """The bytes of `_index.parquet`, the same for the same row groups."""
    rows = [
        {
            **{name: getattr(group, name) for name in INDEX_SCHEMA.names},
            "extents": [vars(extent) for extent in group.extents],
            "side_files": [file.model_dump() for file in group.side_files],
        }
        for group in row_groups
    ]
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, INDEX_SCHEMA), sink, row_group_size=max(len(rows), 1), version="2.6", compression="zstd",
        compression_level=3, use_dictionary=True, write_statistics=False, data_page_version="1.0", store_schema=False,
        write_page_checksum=True,
    )  # fmt: skip
    return sink.getvalue()


def decode_index(data: bytes, *, where: str) -> pa.Table:
    """The index as a table of `INDEX_SCHEMA`. Raises CorruptError when `data` is no index."""
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        return table.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA).combine_chunks()
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise CorruptError(f"{where}: not an index ({error})") from error
