"""No contender: what the machine can do at most with the same bytes in memory, and nothing to find, order or check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import batch_of, picture
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
    pictures, size = source.pictures(), source.kind.batch
    pool = ThreadPoolExecutor(threads)

    def epoch(number: int) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(len(pictures))
        for rows in np.array_split(order, range(size, len(order), size)):
            halves = pool.map(lambda some: [picture(pictures[row]) for row in some], np.array_split(rows, threads))
            yield {"value": batch_of([each for half in halves for each in half], normalise=normalise), "label": rows}

    return epoch


def _scan(path: Path, size: int) -> Epochs:
    import pyarrow.parquet as pq

    def epoch(number: int) -> Iterator[Batch]:
        for batch in pq.ParquetFile(path).iter_batches(size):
            yield {name: column.to_numpy() for name, column in zip(batch.schema.names, batch.columns, strict=True)}

    return epoch
