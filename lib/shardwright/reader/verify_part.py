"""Whether one part and the files beside it are what the index says: bytes, counts, places, and what its samples add up to."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.codecs import npy_header
from shardwright.errors import CorruptError, ShardwrightError, StorageError
from shardwright.format import layout
from shardwright.format.index import Extent
from shardwright.format.manifest import Content, FileDigest, Statistics
from shardwright.reader.stored import part_files, stored_samples
from shardwright.schema import Schema
from shardwright.storage import Storage

_PIECE_BYTES = 8 * 2**20
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
        self.files = (self.digest, *self.side_files)
        self.extents = [[Extent(**extent) for extent in row["extents"]] for row in rows]

    @functools.cached_property
    def samples(self) -> int:
        """Samples in the part."""
        return sum(self.row_group_samples)


def parts_of(index: pa.Table) -> list[PartRows]:
    """The parts of an index, in its order."""
    parts: list[list[dict[str, Any]]] = []
    for row in index.to_pylist():
        if not parts or parts[-1][0]["part"] != row["part"]:
            parts.append([])
        parts[-1].append(row)
    return [PartRows(rows) for rows in parts]


class Collector(Protocol):
    """Gathers statistics of samples, part by part; the order of merging makes no difference."""

    def update(self, samples: Mapping[str, pa.Array]) -> None:
        """Take stored samples in: one array per field."""

    def to_json(self) -> dict[str, Any]:
        """What was gathered, as plain JSON."""

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take in what `to_json` gave elsewhere."""

    def finish(self, split: str) -> Statistics:
        """The statistics of all that was taken in."""


@dataclass(frozen=True, kw_only=True)
class PartCheck:
    """What was found of one part, with the files beside it; `statistics` is what `Collector.to_json` gives."""

    problems: tuple[str, ...]
    files: int
    bytes: int
    statistics: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """What `vars` gave, after a journey as JSON."""
        return cls(**{**plain, "problems": tuple(plain["problems"])})


@dataclass(frozen=True, kw_only=True)
class CheckPart:
    """Everything that is checked of one part. It is small and travels to executors."""

    storage: Storage
    version: str
    content: Content
    collector: Callable[[Content], Collector] | None
    """Makes what recomputes statistics, from the samples of the parts of their split; None: they are not recomputed."""

    def __call__(self, part: PartRows) -> PartCheck:
        """Compare the part. Raises StorageError when the file system refuses."""
        storage = self.storage
        found = {file.name: list(check_file(storage, self.version, file)) for file in part.files}
        problems = [problem for lines in found.values() for problem in lines]
        statistics = None
        if not found[part.name]:
            sound = {name for name, lines in found.items() if not lines}
            try:
                problems += _check_content(part, self.content.dataset_schema, storage, self.version, sound)
                statistics = self._collect(part)
            except (ShardwrightError, OSError, pa.ArrowException) as error:
                problems.append(f"{part.name}: {error}")
        size = sum(file.bytes for file in part.files)
        return PartCheck(problems=tuple(problems), files=len(part.files), bytes=size, statistics=statistics)

    def _collect(self, part: PartRows) -> dict[str, Any] | None:
        if self.collector is None or part.split != self.content.statistics.split:
            return None
        collected, schema = self.collector(self.content), self.content.dataset_schema
        files = part_files(self.storage.url, self.version, part.name, part.digest.bytes)
        for batch in stored_samples(files, 0, schema, schema.names):
            collected.update({name: batch[name] for name in schema.names})
        return collected.to_json()


def check_file(storage: Storage, version: str, expected: FileDigest) -> Iterator[str]:
    """Existence, bytes and sha256. A file that is there but can't be read is damaged like any other.

    Raises StorageError when the file system refuses.
    """
    name = f"{version}/{expected.name}"
    try:
        found = storage.size(name)
    except FileNotFoundError:
        yield f"{expected.name}: missing"
        return
    except OSError as error:
        raise StorageError(f"can't read {storage.url}/{name}: {error}") from error
    if found != expected.bytes:
        yield f"{expected.name}: expected {expected.bytes} bytes, found {found}"
        return
    try:
        digest = sha256_of(storage, name)
    except (OSError, CorruptError) as error:
        yield f"{expected.name}: can't be read ({error})"
        return
    if digest != expected.sha256:
        yield f"{expected.name}: expected sha256 {expected.sha256}, found {digest}"


def sha256_of(storage: Storage, name: str) -> str:
    """The sha256 of a file, read once from its beginning to its end."""
    digest = hashlib.sha256()
    with storage.open(name) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _check_content(part: PartRows, schema: Schema, storage: Storage, version: str, sound: set[str]) -> Iterator[str]:
    """The problems of a part whose checksum is right: row counts of the footer, and values at the recorded places.

    Of the files beside it only those in `sound` are looked into.
    """

    def read(start: int, stop: int) -> bytes:
        return storage.ranges(f"{version}/{part.name}", [(start, stop)])[0]

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
        number = int(part.name.rpartition("part-")[2].removesuffix(".parquet"))
        name = f"{part.directory}/{layout.ranges_name(number, field)}"
        if name not in [file.name for file in part.side_files]:
            yield f"{name} is not listed in the index"
        elif name in sound:
            yield from _check_ranges(part, name, storage.read(f"{version}/{name}"), read)


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


def _check_ranges(part: PartRows, name: str, data: bytes, read: ReadBytes) -> Iterator[str]:
    """A side file's byte ranges: inside the part, ascending, and each after the value's own length."""
    header = npy_header("<i8", (2, part.samples))
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
