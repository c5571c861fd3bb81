"""Whether one part holds what the index says, where the index says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.codecs import npy_header
from shardwright.format import layout
from shardwright.format.index import Extent
from shardwright.format.manifest import FileDigest
from shardwright.schema import Schema

_MAGIC_BYTES = 8
"""Length of the footer, and 'PAR1'."""
ReadBytes = Callable[[int, int], bytes]


class PartRows:
    """The rows of the index for one part."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        first = rows[0]
        self.split: str = first["split"]
        self.shard: int = first["shard"]
        self.name: str = first["part"]
        self.directory = self.name.rpartition("/")[0]
        self.digest = FileDigest(name=self.name, bytes=first["bytes"], sha256=first["sha256"])
        self.side_files = tuple(FileDigest(**file) for row in rows for file in row["side_files"])
        self.row_group_samples = [row["samples"] for row in rows]
        self.extents = [[Extent(**extent) for extent in row["extents"]] for row in rows]

    @functools.cached_property
    def samples(self) -> int:
        """Samples in the part."""
        return sum(self.row_group_samples)


def check_part(part: PartRows, schema: Schema, read: ReadBytes, side_file: Callable[[str], bytes | None]) -> Iterator[str]:
    """The problems of one part whose checksum is right: row counts of the footer, and values at the recorded places.

    `read(start, stop)` gives bytes of the part, `side_file(name)` a whole side file, None for one that the index does not list.
    """
    metadata = _footer(read, part.digest.bytes)
    counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if counts != part.row_group_samples:
        yield f"{part.name}: row groups of {part.row_group_samples} samples in the index, {counts} in the file"
    columns = metadata.schema.to_arrow_schema().names
    absent = [name for name in (*schema.names, layout.KEY) if name not in columns]
    if absent:
        yield f"{part.name}: no column {', '.join(absent)}"
    for number, extents in enumerate(part.extents):
        for extent in extents:
            if extent.stride and not _readable(extent, schema, read, part.digest.bytes):
                yield f"{part.name}: row group {number}: {extent.field!r} is not at byte {extent.offset}"
    for field in sorted({extent.field for extents in part.extents for extent in extents if not extent.stride}):
        yield from _check_ranges(part, field, read, side_file)


def _footer(read: ReadBytes, size: int) -> pq.FileMetaData:
    tail = read(max(size - _MAGIC_BYTES, 0), size)
    length = int.from_bytes(tail[:4], "little") + _MAGIC_BYTES
    return pq.read_metadata(pa.BufferReader(b"PAR1" + read(max(size - length, 0), size)))


def _readable(extent: Extent, schema: Schema, read: ReadBytes, size: int) -> bool:
    """Whether an extent lies in the file, and its first and last value begin with the header of their kind."""
    column = layout.KEY_COLUMN if extent.field == layout.KEY else layout.column(schema[extent.field])
    last = extent.offset + (extent.count - 1) * extent.stride
    if extent.stride != column.stride or extent.offset < 0 or last + extent.stride > size:
        return False
    return all(read(start, start + len(column.header)) == column.header for start in (extent.offset, last))


def _check_ranges(part: PartRows, field: str, read: ReadBytes, side_file: Callable[[str], bytes | None]) -> Iterator[str]:
    """A side file's byte ranges: inside the file, ascending, and each after the value's own length."""
    number = int(part.name.rpartition("part-")[2].removesuffix(".parquet"))
    name = f"{part.directory}/{layout.ranges_name(number, field)}"
    data = side_file(name)
    header = npy_header("<i8", (2, part.samples))
    if data is None:
        yield f"{name} is not listed in the index"
        return
    if not data.startswith(header) or len(data) != len(header) + 16 * part.samples:
        yield f"{name}: expected int64 (2, {part.samples})"
        return
    ranges = np.frombuffer(data, "<i8", offset=len(header)).reshape(2, -1)
    if (ranges[0] < 4).any() or (ranges[1] > part.digest.bytes).any() or (ranges[1] < ranges[0]).any():
        yield f"{name}: byte ranges outside of {part.name}"
        return
    for row in sorted({0, part.samples // 2, part.samples - 1}):
        start, stop = ranges[:, row].tolist()
        if int.from_bytes(read(start - 4, start), "little") != stop - start:
            yield f"{name}: value {row} is not at byte {start}"
