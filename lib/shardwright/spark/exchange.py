"""How the bytes of a sample get from the task that read it to the task that writes its part.

`IndexExchange` suits a local disk: the bytes are staged in files, only (file, row) goes through Spark's shuffle, and the
writing task gathers them from memory maps. Another exchange gives its rows other columns and hands back the same samples.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.format.layout import Column
from shardwright.storage.local import clear_errors

LONG_VALUE = 4096
"""Values from this size on are copied one by one: the call costs less than the second copy that a gather makes."""


class Staging(Protocol):
    """The writing half, one per task: takes samples, gives the columns that go through the shuffle."""

    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Keep the samples; the columns that find them again."""


class Exchange(Protocol):
    """Carries samples between two passes; small, goes to the executors."""

    columns: tuple[pa.Field, ...]
    """The columns that go through the shuffle."""

    def staging(self, schema: pa.Schema) -> AbstractContextManager[Staging]:
        """A context that gives a `Staging` for one task."""

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples that the rows of `refs` name, in that order, one array of type `layout.sample_type` per column; a fixed
        array has the column's header in front of each value.
        """


class IndexExchange:
    """Stages samples as uncompressed Arrow IPC files in a local directory, one per task attempt."""

    columns = (pa.field("file", pa.binary()), pa.field("row", pa.int64()))

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: dict[bytes, _StagedFile] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_directory": self._directory, "_opened": {}}  # memory maps stay in their process

    @contextmanager
    def staging(self, schema: pa.Schema) -> Iterator[Staging]:
        """A file of its own for this attempt of a task."""
        name = uuid.uuid4()
        path = self._directory / f"{name.hex}.arrow"
        with clear_errors(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            yield _Staging(name.bytes, writer)

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples in the order of `refs`, each file and batch visited once."""
        files = refs["file"].combine_chunks().dictionary_encode()
        codes = files.indices.to_numpy()
        rows = refs["row"].to_numpy()
        groups = []
        for code, name in enumerate(files.dictionary.to_pylist()):
            where = np.flatnonzero(codes == code)
            groups += [(where[picked], batch, inside) for picked, batch, inside in self._open(name).locate(rows[where])]
        return [_gather(groups, column, len(rows)) for column in columns]

    def _open(self, name: bytes) -> _StagedFile:
        if name not in self._opened:
            self._opened[name] = _StagedFile(self._directory / f"{uuid.UUID(bytes=name).hex}.arrow")
        return self._opened[name]


class _Staging:
    def __init__(self, name: bytes, writer: pa.RecordBatchFileWriter) -> None:
        self._name = name
        self._writer = writer
        self._rows = 0

    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        self._writer.write_batch(batch)
        first, self._rows = self._rows, self._rows + batch.num_rows
        return {
            "file": pa.repeat(pa.scalar(self._name, pa.binary()), batch.num_rows),
            "row": pa.array(np.arange(first, self._rows, dtype=np.int64)),
        }


class _StagedFile:
    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def locate(
        self, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch, npt.NDArray[np.int64]]]:
        """For each batch that holds some of `rows`: which of them, the batch, and their rows in it."""
        which = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(which, kind="stable")
        for number in np.unique(which).tolist():
            low, high = np.searchsorted(which[order], [number, number + 1])
            picked = order[low:high]
            batch = self._batches[number]
            yield picked, batch, rows[picked] - (self._ends[number] - batch.num_rows)


_Groups = list[tuple[npt.NDArray[np.int64], pa.RecordBatch, npt.NDArray[np.int64]]]


def _gather(groups: _Groups, column: Column, count: int) -> pa.Array:
    if groups and pa.types.is_fixed_size_binary(groups[0][1].schema.field(column.name).type):
        return _gather_fixed(groups, column, count)
    chunks = [batch[column.name].take(pa.array(rows)) for _, batch, rows in groups]
    back = np.empty(count, np.int64)
    back[np.concatenate([where for where, _, _ in groups])] = np.arange(count)
    return pa.concat_arrays(chunks).take(pa.array(back))


def _gather_fixed(groups: _Groups, column: Column, count: int) -> pa.Array:
    head = len(column.header)
    out = np.empty((count, column.stride), np.uint8)
    out[:, :head] = np.frombuffer(column.header, np.uint8)
    body = out[:, head:]
    width = body.shape[1]
    for where, batch, rows in groups:
        array = batch[column.name]
        values = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width :].reshape(-1, width)
        if width < LONG_VALUE:
            body[where] = values[rows]
        else:
            for target, row in zip(where.tolist(), rows.tolist(), strict=True):
                body[target] = values[row]
    return pa.Array.from_buffers(pa.binary(column.stride), count, [None, pa.py_buffer(out)])
