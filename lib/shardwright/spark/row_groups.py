"""Cutting samples into row groups, by their own encoded sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def row_groups(sample_bytes: npt.NDArray[np.int64], limit: int) -> list[tuple[int, int]]:
    """Cut a part into row groups [first, stop) of at most `limit` bytes each, or one sample: by the samples' own encoded
    sizes, so that the cuts depend on nothing else.
    """
    ends = np.cumsum(sample_bytes)
    out = []
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + limit, side="right")))
        out.append((first, stop))
        first = stop
    return out


class RowGroupCutter:
    """Cuts samples that come in chunks as `row_groups` would cut them all at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[pa.RecordBatch] = []
        self._sizes: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, samples: pa.RecordBatch, sizes: npt.NDArray[np.int64]) -> Iterator[tuple[dict[str, pa.Array], int]]:
        """The row groups that are complete with these samples, each with its bytes."""
        self._chunks.append(samples)
        self._sizes = np.append(self._sizes, sizes)
        *complete, (kept, _) = row_groups(self._sizes, self._limit)
        if not complete:
            return
        table = pa.Table.from_batches(self._chunks)
        for first, stop in complete:
            yield _columns(table.slice(first, stop - first)), int(self._sizes[first:stop].sum())
        self._chunks = table.slice(kept).to_batches()
        self._sizes = self._sizes[kept:]

    def rest(self) -> Iterator[tuple[dict[str, pa.Array], int]]:
        """The last row group."""
        if self._chunks:
            yield _columns(pa.Table.from_batches(self._chunks)), int(self._sizes.sum())


def _columns(table: pa.Table) -> dict[str, pa.Array]:
    return {name: pa.concat_arrays(table[name].chunks) for name in table.column_names}
