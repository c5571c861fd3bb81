"""Published versions as the input of a job: their parts, and the samples in them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError
from shardwright.format.layout import CARRY, KEY, column, sample_type
from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_index, read_manifest
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.reader.stored import PLACE, part_files, stored_samples
from shardwright.reader.verify_part import PartRows, parts_of
from shardwright.schema import Field, Schema
from shardwright.sources.base import InputFile, Task
from shardwright.stages import SOURCE
from shardwright.stages.shard import ORDER_VALUES
from shardwright.stages.split import SPLIT
from shardwright.storage import open_storage

_AFTER_ALL = 2**40
"""The index of the first sample that waits: after all that are published."""


@functools.lru_cache(maxsize=4)
def published_parts(url: str, version: str, index_sha256: str) -> tuple[PartRows, ...]:  # noqa: ARG001
    """The parts of a version in the order of its index; each worker reads that once, so that tasks need not carry it.

    `index_sha256` is what the index should be: another dataset may come to lie at the same place while a worker lives.
    """
    storage = open_storage(url)
    return tuple(parts_of(read_index(storage, *read_manifest(storage, version))))


@dataclass(frozen=True)
class Version:
    """A version of a dataset, opened."""

    url: str
    name: str
    manifest: Manifest

    @classmethod
    def open(cls, url: str, version: str = "latest") -> Version:
        """Read its manifest. Raises DatasetNotFoundError, CorruptError, FormatVersionError, StorageError."""
        storage = open_storage(url)
        return cls(storage.url, *read_manifest(storage, version))

    def __str__(self) -> str:
        return f"{self.url}/{self.name}"

    def samples(self, split: str) -> int:
        """Published samples of a split, pads left out."""
        found = self.manifest.content.splits[split]
        return found.samples - found.padded


@dataclass
class PublishedSource:
    """A `Source` of the samples in the parts that `pieces` name, pads left out, as they are stored.

    Its batches have the key and the split of each sample too and, with `keep_places`, the index in the split as what orders.
    """

    schema: Schema
    keep_places: bool
    pieces: tuple[Task, ...] = ()
    files: tuple[InputFile, ...] = ()
    sample_per_file: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the list of parts: a task names its own."""
        return type(self), (self.schema, self.keep_places)

    @property
    def addressable(self) -> bool:
        """Not yet: values are staged."""
        return False

    def unit(self, number: int) -> pa.RecordBatch:
        """Nothing is taken from the parts in place."""
        raise NotImplementedError

    def tasks(self, task_bytes: int) -> list[Task]:  # noqa: ARG002 - the protocol's
        """A task for each part."""
        return list(self.pieces)

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The samples of a part, or of a file of samples that wait. Raises CorruptError."""
        (file,) = task.files
        version, first, second = file.name.split("/")[:3]
        split = second if first == CARRY else first
        batches = _waiting(file, self.schema) if first == CARRY else self._published(file, version)
        for values, places in batches:
            columns = {name: values[name] for name in (*self.schema.names, KEY)}
            columns[SPLIT] = pa.repeat(pa.scalar(split), values.num_rows)
            columns[SOURCE] = pa.array([f"{file.path}/{file.name}#{place}" for place in places.tolist()], pa.string())
            if self.keep_places:
                order = (places + task.start).astype(">u8")
                columns[ORDER_VALUES] = pa.Array.from_buffers(pa.binary(8), len(order), [None, pa.py_buffer(order)])
            yield pa.RecordBatch.from_pydict(columns)

    def _published(self, file: InputFile, version: str) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
        files = part_files(file.path, version, file.name.removeprefix(f"{version}/"), file.bytes)
        for stored in stored_samples(files, 0, self.schema, [*self.schema.names, KEY, PLACE]):
            values = {field.name: _sample(field, stored[field.name]) for field in self.schema}
            yield pa.RecordBatch.from_pydict({**values, KEY: stored[KEY]}), stored[PLACE].to_numpy()


def pieces(version: Version, splits: tuple[str, ...], *, waiting: bool) -> list[Task]:
    """A task for each part of `splits`, and for the samples that wait for a later version."""
    out = []
    ends = dict.fromkeys(splits, 0)
    for part in published_parts(version.url, version.name, version.manifest.content.index.sha256):
        if part.split in ends:
            first, ends[part.split] = ends[part.split], ends[part.split] + part.samples
            out.append(_task(version, part.name, part.digest.bytes, first, part.samples))
    for file in version.manifest.lineage.carried if waiting else ():
        if file.name.split("/")[1] in ends:
            out.append(_task(version, file.name, file.bytes, _AFTER_ALL, 0))
    return out


def _task(version: Version, name: str, size: int, first: int, samples: int) -> Task:
    file = InputFile(path=version.url, name=f"{version.name}/{name}", bytes=size, modified_ns=0)
    return Task(files=(file,), start=first, stop=first + samples, bytes=size)


def _sample(field: Field, stored: pa.Array) -> pa.Array:
    """Stored values as they go between stages: fixed arrays lose their header."""
    head = len(column(field).header)
    if not head:
        return stored
    body = np.ascontiguousarray(fixed_bytes(stored)[:, head:])
    return pa.Array.from_buffers(sample_type(field), len(body), [None, pa.py_buffer(body)])


def _waiting(file: InputFile, schema: Schema) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
    """The samples of a file that waits: it holds them as they go between stages."""
    names = [*schema.names, KEY]
    types = [*(sample_type(field) for field in schema), pa.binary(16)]
    try:
        with open_storage(file.path).open(file.name) as raw, pq.ParquetFile(raw, page_checksum_verification=True) as parquet:
            first = 0
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=names, use_threads=False)
                arrays = [table[name].combine_chunks().cast(kind) for name, kind in zip(names, types, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, names), np.arange(first, first + table.num_rows)
                first += table.num_rows
    except (pa.ArrowException, FileNotFoundError, KeyError) as error:
        raise CorruptError(f"{file.path}/{file.name} can't be read ({error}); copy the file again") from error
