"""No contender: what the machine can do at most with the same bytes in memory, and nothing to find, order or check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import MEAN, SIDE, STD, picture_into
from tests.benchmarks.peers.process import Batch, Epochs, Job
from tests.benchmarks.peers.source import Source


def convert(job: Job) -> None:
    """For `variant="zstd"` a Parquet file of the table; else nothing."""
    source, store = Source.open(Path(job.source)), Path(job.store)
    store.mkdir()
    if job.variant == "zstd":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(source.kind.columns, source.values.T, strict=True))
        pq.write_table(pa.table({**columns, "label": source.labels}), store / "table.parquet", compression="zstd")


def epochs(job: Job) -> Epochs:
    """`numpy.take`, the decoder alone, or a scan by pyarrow."""
    source = Source.open(Path(job.source))
    if job.variant == "zstd":
        return _scan(Path(job.store) / "table.parquet", source.kind.batch)
    if source.kind.content == "picture":
        return _decode(source, max(job.workers, 1), normalise=job.normalise)
    return _take(source)


def random(job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """Rows of an array in memory."""
    values = np.array(Source.open(Path(job.source)).values)
    return lambda index: np.array(values[index]), lambda indexes: np.take(values, indexes, axis=0)


def _take(source: Source) -> Epochs:
    kind = source.kind
    if kind.content == "table":
        arrays = {name: np.ascontiguousarray(column) for name, column in zip(kind.columns, source.values.T, strict=True)}
    else:
        arrays = {"value": np.array(source.values).reshape(kind.samples, -1)}

    def epoch(number: int) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(kind.samples)
        return ({name: np.take(array, rows, axis=0) for name, array in arrays.items()} | {"label": rows}
                for rows in np.array_split(order, range(kind.batch, kind.samples, kind.batch)))  # fmt: skip

    return epoch


def _decode(source: Source, threads: int, *, normalise: bool) -> Epochs:
    """Each thread decodes into a buffer of its own, crops into the batch, and normalises on the way."""
    pictures, kind = source.pictures(), source.kind
    pool = ThreadPoolExecutor(threads)

    def fill(rows: Any, out: Any) -> None:
        scratch, cropped = np.empty(int(np.prod(kind.shape)), np.uint8), np.empty((SIDE, SIDE, 3), np.uint8)
        for row, into in zip(rows, out, strict=True):
            picture_into(pictures[row], scratch, cropped if normalise else into)
            if normalise:
                np.multiply(cropped, 1 / STD, out=into)
                np.subtract(into, MEAN / STD, out=into)

    def epoch(number: int) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(len(pictures))
        for rows in np.array_split(order, range(kind.batch, len(order), kind.batch)):
            out = np.empty((len(rows), SIDE, SIDE, 3), np.float32 if normalise else np.uint8)
            list(pool.map(fill, np.array_split(rows, threads), np.array_split(out, threads)))
            yield {"value": out, "label": rows}

    return epoch


def _scan(path: Path, size: int) -> Epochs:
    import pyarrow.parquet as pq

    def epoch(number: int) -> Iterator[Batch]:
        for batch in pq.ParquetFile(path).iter_batches(size):
            yield {name: column.to_numpy() for name, column in zip(batch.schema.names, batch.columns, strict=True)}

    return epoch
