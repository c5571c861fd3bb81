"""Contender: stock Petastorm. It reads the dataset that shardwright wrote: Parquet with Petastorm's metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import batch_of, middle
from tests.benchmarks.peers.process import Batch, Epochs, Job
from tests.benchmarks.peers.source import Source


def epochs(job: Job) -> Epochs:
    """Row groups in random order and the rows within each; tables by `make_batch_reader`; threads for workers."""
    from petastorm import make_batch_reader, make_reader  # type: ignore[import-not-found]

    kind = Source.open(Path(job.source)).kind
    table = kind.content == "table"
    fields = [*(kind.columns if table else ["value"]), "label"]
    make = make_batch_reader if table else make_reader
    reader = make(
        (Path(job.store) / "v000001/train").as_uri(), schema_fields=fields, num_epochs=1, seed=1,
        reader_pool_type="thread" if job.workers else "dummy", workers_count=max(job.workers, 1), shuffle_row_groups=True,
        shuffle_rows=True,
    )  # fmt: skip

    def epoch(number: int) -> Iterator[Batch]:
        if number:
            reader.reset()
        return _columns(reader, kind.batch) if table else _stacked(reader, kind.batch, job, pictures=kind.content == "picture")

    return epoch


def rank(job: Job) -> Iterable[int]:
    """`cur_shard` and `shard_count`."""
    from petastorm import make_reader

    url = (Path(job.store) / "v000001/train").as_uri()
    with make_reader(url, schema_fields=["label"], cur_shard=job.rank, shard_count=job.world, num_epochs=1, seed=1) as reader:
        yield from (row.label for row in reader)


def _columns(reader: Any, size: int) -> Iterator[Batch]:
    """Its batches are row groups."""
    for group in reader:
        columns = group._asdict()
        for start in range(0, len(columns["label"]), size):
            yield {name: column[start : start + size] for name, column in columns.items()}


def _stacked(reader: Any, size: int, job: Job, *, pictures: bool) -> Iterator[Batch]:
    values: list[Any] = []
    labels: list[int] = []
    for row in reader:
        values.append(middle(row.value) if pictures else row.value)
        labels.append(row.label)
        if len(values) == size:
            yield _batch(values, labels, job)
            values, labels = [], []
    if values:
        yield _batch(values, labels, job)


def _batch(values: list[Any], labels: list[int], job: Job) -> Batch:
    return {"value": batch_of(values, normalise=job.normalise), "label": np.array(labels)}
