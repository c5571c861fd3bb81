"""How the bytes of a sample get from the task that read it to the task that writes its part.

Two ways. What suits a local disk: only (file, row) goes through Spark's shuffle, and the writing task gathers the bytes from
memory maps: of the input itself where it can be addressed (`SourceExchange`), else of files that the reading tasks staged
(`StagedExchange`). What suits HDFS: the samples themselves go through the shuffle (`shuffled.ShuffledExchange`), so that staged
files are read once, from beginning to end.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from shardwright.format.layout import Column
from shardwright.sources import Source
from shardwright.spark.gather import I64, Picked, gather
from shardwright.storage import WritableStorage


class Staging(Protocol):
    """The sending half of a reading task."""

    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Keep the samples; the columns that find them again."""


class Fetch(Protocol):
    """Gives samples back."""

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples that the rows of `refs` name, in that order, one array of type `layout.sample_type` per column.

        A fixed array has the column's header in front of each value. `refs` has at least one row.
        """


class Exchange(Fetch, Protocol):
    """Carries samples between passes; small, goes to the executors.

    `head` is what else goes with a sample to another task: first the number of that task, an int32; among the others its bytes
    as encoded, by the name "bytes".
    """

    columns: tuple[pa.Field, ...]
    """What finds a staged sample again: columns of the index."""
    in_file_order: bool
    """Whether `fetch` and `send` want samples in the order in which they were staged, as index files have them at first."""

    def staging(self, schema: pa.Schema) -> AbstractContextManager[Staging]:
        """A context that gives a `Staging` for one task; `schema` names the columns to keep, in their sample types."""

    def sent(self, head: pa.Schema) -> pa.Schema:
        """What goes through the shuffle; its first column is that of `head`."""

    def send(self, rows: Iterator[pa.RecordBatch], head: pa.Schema) -> Iterator[pa.RecordBatch]:
        """What is sent for rows of `head` and `columns`."""

    def receive(self, batches: Iterator[pa.RecordBatch], head: pa.Schema) -> AbstractContextManager[tuple[pa.Table, Fetch]]:
        """A context for all that was sent to one task: rows of `head` and what finds their samples; and what fetches these."""


class _MappedExchange:
    """Gathers samples from record batches that lie in memory maps."""

    columns = (pa.field("file", pa.binary()), pa.field("row", pa.int64()))
    in_file_order = False

    def __init__(self) -> None:
        self._opened: dict[bytes, _Batches] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": {}}  # memory maps stay in their process

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples in the order of `refs`, each file and batch visited once."""
        return gather(self._picked(refs), columns, refs.num_rows)

    def sent(self, head: pa.Schema) -> pa.Schema:
        """The rows as they are."""
        return pa.schema([*head, *self.columns])

    def send(self, rows: Iterator[pa.RecordBatch], head: pa.Schema) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - the protocol's
        """The rows as they are."""
        return rows

    @contextmanager
    def receive(self, batches: Iterator[pa.RecordBatch], head: pa.Schema) -> Iterator[tuple[pa.Table, Fetch]]:
        """The rows as they are; their samples lie where they were staged."""
        yield pa.Table.from_batches(batches, self.sent(head)), self

    def _picked(self, refs: pa.Table) -> Iterator[Picked]:
        files = refs["file"].combine_chunks().dictionary_encode()
        codes = files.indices.to_numpy()
        rows = refs["row"].to_numpy()
        for code, name in enumerate(files.dictionary.to_pylist()):
            where = np.flatnonzero(codes == code)
            if name not in self._opened:
                self._opened[name] = _Batches(self._open(name))
            for picked, batch, inside in self._opened[name].locate(rows[where]):
                yield where[picked], batch, inside

    def _open(self, name: bytes) -> list[pa.RecordBatch]:
        raise NotImplementedError


class StagedExchange(_MappedExchange):
    """Stages samples as uncompressed Arrow IPC files in a local directory, one per task attempt."""

    def __init__(self, directory: WritableStorage) -> None:
        super().__init__()
        self._directory = directory

    @contextmanager
    def staging(self, schema: pa.Schema) -> Iterator[Staging]:
        """A file of its own for this attempt of a task."""
        name = uuid.uuid4()
        with (
            self._directory.new_file(_file_name(name)) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            yield _FileStaging(name.bytes, schema, writer)

    def _open(self, name: bytes) -> list[pa.RecordBatch]:
        path = self._directory.local_path(_file_name(uuid.UUID(bytes=name)))
        assert path is not None  # a directory on this machine
        reader = pa.ipc.open_file(self._map(path))
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]

    def _map(self, path: Path) -> pa.NativeFile:
        return pa.memory_map(str(path))


class _FileStaging:
    def __init__(self, name: bytes, schema: pa.Schema, writer: pa.RecordBatchFileWriter) -> None:
        self._name = name
        self._schema = schema
        self._writer = writer
        self._rows = 0

    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        self._writer.write_batch(batch.select(self._schema.names).cast(self._schema))
        first, self._rows = self._rows, self._rows + batch.num_rows
        return {
            "file": pa.repeat(pa.scalar(self._name, pa.binary()), batch.num_rows),
            "row": pa.array(np.arange(first, self._rows, dtype=np.int64)),
        }


class SourceExchange(_MappedExchange):
    """Takes samples from an addressable source a second time; nothing is staged."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def staging(self, schema: pa.Schema) -> AbstractContextManager[Staging]:  # noqa: ARG002 - the protocol's
        """What finds samples in the source again."""
        return nullcontext(_SourceStaging())

    def _open(self, name: bytes) -> list[pa.RecordBatch]:
        return [self._source.unit(int.from_bytes(name, "little"))]


class _SourceStaging:
    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        units = batch["_unit"].dictionary_encode()
        names = pa.array([number.to_bytes(4, "little") for number in units.dictionary.to_pylist()], pa.binary())
        return {"file": names.take(units.indices), "row": batch["_row"]}


class _Batches:
    """Record batches, and where a row of all of them is."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._batches = batches
        self._ends = np.cumsum([batch.num_rows for batch in batches])

    def locate(self, rows: I64) -> Iterator[Picked]:
        """For each batch that holds some of `rows`: which of them, the batch, and their rows in it."""
        which = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(which, kind="stable")
        for number in np.unique(which).tolist():
            low, high = np.searchsorted(which[order], [number, number + 1])
            picked = order[low:high]
            batch = self._batches[number]
            yield picked, batch, rows[picked] - (self._ends[number] - batch.num_rows)


def _file_name(name: uuid.UUID) -> str:
    return f"{name.hex}.arrow"
