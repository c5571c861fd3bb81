"""Samples picked out of record batches and put in another order, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.format.layout import Column

LONG_VALUE = 4096
"""Values from this size on are copied one by one: the call costs less than the second copy that a gather makes."""

I64 = npt.NDArray[np.int64]
Picked = tuple[I64, pa.RecordBatch, I64]
"""Places in the result, a batch, and the rows of it that go there."""


def gather(picked: Iterable[Picked], columns: Sequence[Column], count: int) -> list[pa.Array]:
    """`count` samples, one array of type `layout.sample_type` per column; a fixed array has the header in front of each value.

    Each batch is looked at once, in turn, and copied from: it can be forgotten when the next one is asked for.
    """
    gathered: list[_Fixed | _Taken] = []
    for where, batch, rows in picked:
        if not gathered:
            gathered = [_start(column, batch, count) for column in columns]
        for own in gathered:
            own.add(where, batch, rows)
    return [own.finish() for own in gathered]


def _start(column: Column, batch: pa.RecordBatch, count: int) -> _Fixed | _Taken:
    fixed = pa.types.is_fixed_size_binary(batch.schema.field(column.name).type)
    return _Fixed(column, count) if fixed else _Taken(column.name, count)


class _Fixed:
    """Values of one width, copied to their place."""

    def __init__(self, column: Column, count: int) -> None:
        head = len(column.header)
        self._name = column.name
        self._out = np.empty((count, column.stride), np.uint8)
        self._out[:, :head] = np.frombuffer(column.header, np.uint8)
        self._body = self._out[:, head:]

    def add(self, where: I64, batch: pa.RecordBatch, rows: I64) -> None:
        body, width, array = self._body, self._body.shape[1], batch[self._name]
        held = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width :]
        values = held[: len(array) * width].reshape(-1, width)
        if width < LONG_VALUE:
            body[where] = values[rows]
        else:
            for target, row in zip(where.tolist(), rows.tolist(), strict=True):
                body[target] = values[row]

    def finish(self) -> pa.Array:
        count, stride = self._out.shape
        return pa.Array.from_buffers(pa.binary(stride), count, [None, pa.py_buffer(self._out)])


class _Taken:
    """Values of varying length: taken batch by batch, put in place at the end."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._back = np.empty(count, np.int64)
        self._chunks: list[pa.Array] = []
        self._rows = 0

    def add(self, where: I64, batch: pa.RecordBatch, rows: I64) -> None:
        self._back[where] = np.arange(self._rows, self._rows + len(rows))
        self._rows += len(rows)
        self._chunks.append(batch[self._name].take(pa.array(rows)))

    def finish(self) -> pa.Array:
        return pa.concat_arrays(self._chunks).take(pa.array(self._back))
