"""Contender: Lance, `take` of a whole batch by row number. It reads with threads of its own, and has no other workers here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import batch_of, picture
from tests.benchmarks.peers.process import Batch, Epochs, Job
from tests.benchmarks.peers.source import Kind, Source


def convert(job: Job) -> None:
    """An array as a list of fixed size, a picture as its bytes, a table by columns."""
    import lance  # type: ignore[import-not-found]
    import pyarrow as pa

    source = Source.open(Path(job.source))
    kind = source.kind
    if kind.content == "table":
        columns: dict[str, Any] = dict(zip(kind.columns, np.ascontiguousarray(source.values.T), strict=True))
    elif kind.content == "picture":
        columns = {"value": pa.array(source.pictures(), pa.binary())}
    else:
        flat = np.array(source.values).reshape(-1)
        columns = {"value": pa.FixedSizeListArray.from_arrays(flat, int(np.prod(kind.shape)))}
    lance.write_dataset(pa.table({**columns, "label": source.labels}), job.store)


def epochs(job: Job) -> Epochs:
    """Batches of a new permutation."""
    import lance

    kind, dataset = Source.open(Path(job.source)).kind, lance.dataset(job.store)

    def epoch(number: int) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(kind.samples)
        for rows in np.array_split(order, range(kind.batch, kind.samples, kind.batch)):
            yield _batch(dataset.take(rows), kind, job)

    return epoch


def random(job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """`take` of one row and of several."""
    import lance

    kind, dataset = Source.open(Path(job.source)).kind, lance.dataset(job.store)

    def take(indexes: list[int]) -> Any:
        return _arrays(dataset.take(indexes, columns=["value"]).column("value"), kind)

    return lambda index: take([index])[0], take


def _batch(table: Any, kind: Kind, job: Job) -> Batch:
    label = table.column("label").to_numpy()
    if kind.content == "table":
        return {name: table.column(name).to_numpy() for name in kind.columns} | {"label": label}
    if kind.content == "array":
        return {"value": _arrays(table.column("value"), kind), "label": label}
    pictures = [picture(np.frombuffer(value.as_buffer(), np.uint8)) for value in table.column("value")]
    return {"value": batch_of(pictures, normalise=job.normalise), "label": label}


def _arrays(column: Any, kind: Kind) -> Any:
    return column.combine_chunks().flatten().to_numpy().reshape(-1, *kind.shape)
