"""The exchange for storages that are read by requests, like HDFS: the samples themselves go through Spark's shuffle.

A reading task stages an Arrow IPC file. Its batches are read once, in turn, and their samples sent to the tasks that write
them: as few large blobs, so that Spark moves few rows. A blob is one Arrow record batch, serialised without its schema: the
`head` of each sample, then its fields. A writing task lays what it receives down on its local disk, and gathers from there.
"""

from __future__ import annotations

import itertools
import mmap
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.format.layout import Column, sample_type
from shardwright.schema import Schema
from shardwright.spark.encoding import bare_column
from shardwright.spark.exchange import Fetch, StagedExchange, Staging
from shardwright.spark.gather import Picked, gather
from shardwright.spark.row_groups import row_groups
from shardwright.storage import LocalStorage, WritableStorage
from shardwright.storage.scratch import scratch_file

CHUNK_BYTES = 64 * 2**20
"""Samples that are brought in order at once, and scratch pages that are mapped at once."""
BLOB_BYTES = 8 * 2**20
"""A blob is not larger, unless it is one sample; nor a staged batch."""
_ROW_BYTES = 128
"""What is held of a sample beside its fields, about."""


class ShuffledExchange:
    """Stages samples in `storage`, sends them through the shuffle, and gathers them on the receiving task's local disk.

    A task that sends holds about three chunks of 64 MiB. One that receives has at most about 64 MiB of its scratch file mapped,
    beside the heads of its samples and what it writes; on its local disk as much as it receives, and again what it writes.
    """

    columns = (pa.field("file", pa.binary()), pa.field("batch", pa.int32()), pa.field("row", pa.int32()))
    in_file_order = True

    def __init__(self, storage: WritableStorage, schema: Schema) -> None:
        self._storage = storage
        self._columns = tuple(bare_column(field) for field in schema)
        self._fields = pa.schema([(field.name, sample_type(field)) for field in schema])
        self._last: tuple[bytes, int, pa.RecordBatch] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_last": None}

    @contextmanager
    def staging(self, schema: pa.Schema) -> Iterator[Staging]:
        """A file of its own for this attempt of a task."""
        name = uuid.uuid4()
        with (
            self._storage.new_file(_file_name(name.bytes)) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            yield _BatchStaging(name.bytes, schema, writer)

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples in the order of `refs`, each staged batch read once. Quick where `refs` is in file order, roughly."""
        return gather(self._picked(refs), columns, refs.num_rows)

    def sent(self, head: pa.Schema) -> pa.Schema:
        """The number of the task, and blobs."""
        return pa.schema([head.field(0), ("samples", pa.binary())])

    def send(self, rows: Iterator[pa.RecordBatch], head: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Blobs of the samples of `rows`, chunk by chunk."""
        for chunk in _chunks(rows):
            order = chunk.take(pc.sort_indices(chunk[head.names[0]]))
            numbers = order[head.names[0]].to_numpy()
            known = [order[name].combine_chunks() for name in head.names[1:]]
            blobs = pa.RecordBatch.from_arrays([*known, *self.fetch(order, self._columns)], schema=self._blob_schema(head))
            sizes = order["bytes"].to_numpy()
            bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
            for start, end in itertools.pairwise(bounds):
                for first, stop in row_groups(sizes[start:end], BLOB_BYTES):
                    blob = blobs.slice(start + first, stop - first).serialize()
                    ends = pa.py_buffer(np.array([0, blob.size], np.int32))
                    row = [pa.array(numbers[start : start + 1]), pa.Array.from_buffers(pa.binary(), 1, [None, ends, blob])]
                    yield pa.RecordBatch.from_arrays(row, schema=self.sent(head))

    @contextmanager
    def receive(self, batches: Iterator[pa.RecordBatch], head: pa.Schema) -> Iterator[tuple[pa.Table, Fetch]]:
        """The rows of all blobs; their samples lie in a scratch file for as long as the context lasts."""
        with scratch_file("samples.arrow", self._storage.url) as path:
            scratch = _Scratch(LocalStorage(path.parent))
            schema = pa.schema([*head, *scratch.columns])
            rows = []
            with scratch.staging(self._fields) as staging:
                for number, blob in _joined(_blobs(batches, self._blob_schema(head))):
                    known = blob.columns[: len(head) - 1]
                    samples = pa.RecordBatch.from_arrays(blob.columns[len(known) :], schema=self._fields)
                    numbers = pa.repeat(pa.scalar(number, head.field(0).type), blob.num_rows)
                    found = staging.stage(samples).values()
                    rows.append(pa.RecordBatch.from_arrays([numbers, *known, *found], schema=schema))
            yield pa.Table.from_batches(rows, schema), scratch

    def _blob_schema(self, head: pa.Schema) -> pa.Schema:
        """Names may be there twice: columns are found by their place."""
        return pa.schema([*list(head)[1:], *self._fields])

    def _picked(self, refs: pa.Table) -> Iterator[Picked]:
        files = refs["file"].combine_chunks().dictionary_encode()
        codes = files.indices.to_numpy()
        batches, rows = refs["batch"].to_numpy(), refs["row"].to_numpy().astype(np.int64)
        for code, name in enumerate(files.dictionary.to_pylist()):
            own = np.flatnonzero(codes == code)
            order = own[np.argsort(batches[own], kind="stable")]
            with self._storage.open(_file_name(name)) as file:
                reader = pa.ipc.open_file(file)
                for where in np.split(order, np.flatnonzero(np.diff(batches[order])) + 1):
                    yield where, self._batch(reader, name, int(batches[where[0]])), rows[where]

    def _batch(self, reader: pa.RecordBatchFileReader, name: bytes, number: int) -> pa.RecordBatch:
        """A staged batch. The last one is kept: where one chunk ends, the next begins."""
        if self._last is None or self._last[:2] != (name, number):
            self._last = name, number, reader.get_batch(number)
        return self._last[2]


class _BatchStaging:
    def __init__(self, name: bytes, schema: pa.Schema, writer: pa.RecordBatchFileWriter) -> None:
        self._name = name
        self._schema = schema
        self._writer = writer
        self._batches = 0

    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        numbers, rows = [], []
        for piece in _pieces(batch.select(self._schema.names).cast(self._schema)):
            self._writer.write_batch(piece)
            numbers.append(np.full(piece.num_rows, self._batches, np.int32))
            rows.append(np.arange(piece.num_rows, dtype=np.int32))
            self._batches += 1
        return {
            "file": pa.repeat(pa.scalar(self._name, pa.binary()), batch.num_rows),
            "batch": pa.array(np.concatenate(numbers)),
            "row": pa.array(np.concatenate(rows)),
        }


class _Scratch(StagedExchange):
    """A file on the local disk that one task writes, then gathers from.

    Pages that were looked at count as memory of the process, which a cluster's manager limits: they are given back in between.
    """

    _looked_at = 0

    def _map(self, path: Path) -> pa.NativeFile:
        with open(path, "rb") as file:
            self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.BufferReader(self._pages)

    def _picked(self, refs: pa.Table) -> Iterator[Picked]:
        for picked in super()._picked(refs):
            yield picked
            self._looked_at += picked[1].nbytes
            if self._looked_at > CHUNK_BYTES:
                self._pages.madvise(mmap.MADV_DONTNEED)
                self._looked_at = 0


def _chunks(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows in order, cut and put together so that their samples are about `CHUNK_BYTES`."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in rows:
        sizes = batch["bytes"].to_numpy() + _ROW_BYTES
        for first, stop in row_groups(sizes, CHUNK_BYTES):
            own = int(sizes[first:stop].sum())
            if held and size + own > CHUNK_BYTES:
                yield pa.Table.from_batches(held)
                held, size = [], 0
            held.append(batch.slice(first, stop - first))
            size += own
    if held:
        yield pa.Table.from_batches(held)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most `BLOB_BYTES`, or one sample."""
    if batch.nbytes <= BLOB_BYTES or batch.num_rows <= 1:
        yield batch
    else:
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half))
        yield from _pieces(batch.slice(half))


def _blobs(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The number of the task, and what was sent to it."""
    for batch in batches:
        for number, blob in zip(batch.column(0), batch.column(1), strict=True):
            yield number.as_py(), pa.ipc.read_record_batch(blob.as_buffer(), schema)


def _joined(blobs: Iterator[tuple[int, pa.RecordBatch]]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Small blobs of one task put together."""
    held: list[pa.RecordBatch] = []
    size = number = 0
    for number, blob in blobs:
        if held and size + blob.nbytes > BLOB_BYTES:
            yield number, pa.concat_batches(held)
            held, size = [], 0
        held.append(blob)
        size += blob.nbytes
    if held:
        yield number, pa.concat_batches(held)


def _file_name(name: bytes) -> str:
    return f"{name.hex()}.arrow"
