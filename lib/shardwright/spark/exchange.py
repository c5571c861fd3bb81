"""How the bytes of a sample get from the task that read it to the task that writes its part.

What suits a local disk: only (file, row) goes through Spark's shuffle, and the writing task gathers the bytes from memory
maps: of the input itself where it can be addressed (`SourceExchange`), else of files that the reading tasks staged
(`StagedExchange`). Another exchange gives its rows other columns and hands back the same samples.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.format.layout import Column
from shardwright.sources import Source
from shardwright.storage.local import clear_errors

LONG_VALUE = 4096
"""Values from this size on are copied one by one: the call costs less than the second copy that a gather makes."""


class Staging(Protocol):
    """The sending half, one per task."""

    def stage(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Keep the samples; the columns that find them again."""


class Exchange(Protocol):
    """Carries samples between two passes; small, goes to the executors."""

    columns: tuple[pa.Field, ...]
    """The columns that go through the shuffle."""

    def staging(self, schema: pa.Schema) -> AbstractContextManager[Staging]:
        """A context that gives a `Staging` for one task; `schema` names the columns to keep, in their sample types."""

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples that the rows of `refs` name, in that order, one array of type `layout.sample_type` per column.

        A fixed array has the column's header in front of each value.
        """


class _MappedExchange:
    """Gathers samples from record batches that lie in memory maps."""

    columns = (pa.field("file", pa.binary()), pa.field("row", pa.int64()))

    def __init__(self) -> None:
        self._opened: dict[bytes, _Batches] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": {}}  # memory maps stay in their process

    def fetch(self, refs: pa.Table, columns: Sequence[Column]) -> list[pa.Array]:
        """The samples in the order of `refs`, each file and batch visited once."""
        files = refs["file"].combine_chunks().dictionary_encode()
        codes = files.indices.to_numpy()
        rows = refs["row"].to_numpy()
        groups = []
        for code, name in enumerate(files.dictionary.to_pylist()):
            where = np.flatnonzero(codes == code)
            if name not in self._opened:
                self._opened[name] = _Batches(self._open(name))
            groups += [(where[picked], batch, inside) for picked, batch, inside in self._opened[name].locate(rows[where])]
        return [_gather(groups, column, len(rows)) for column in columns]

    def _open(self, name: bytes) -> list[pa.RecordBatch]:
        raise NotImplementedError


class StagedExchange(_MappedExchange):
    """Stages samples as uncompressed Arrow IPC files in a local directory, one per task attempt."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    @contextmanager
    def staging(self, schema: pa.Schema) -> Iterator[Staging]:
        """A file of its own for this attempt of a task."""
        name = uuid.uuid4()
        path = self._directory / f"{name.hex}.arrow"
        with clear_errors(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            yield _FileStaging(name.bytes, schema, writer)

    def _open(self, name: bytes) -> list[pa.RecordBatch]:
        reader = pa.ipc.open_file(pa.memory_map(str(self._directory / f"{uuid.UUID(bytes=name).hex}.arrow")))
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


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
