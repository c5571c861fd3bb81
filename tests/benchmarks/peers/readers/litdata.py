"""Contender: LitData, `optimize` into chunks of 16 MB, StreamingDataset and StreamingDataLoader as its README has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.process import Epochs, Job
from tests.benchmarks.peers.readers.torch_batches import decoded, loader_options, one_by_one, process_group, read_labels
from tests.benchmarks.peers.source import Source


def convert(job: Job) -> None:
    """A picture as its bytes, a table's row as one vector."""
    import litdata  # type: ignore[import-not-found]

    source = Source.open(Path(job.source))
    values = source.pictures() if source.kind.content == "picture" else source.values
    litdata.optimize(
        fn=partial(_sample, values), inputs=list(range(source.kind.samples)), output_dir=job.store, chunk_bytes="16MB",
        num_workers=1, start_method="fork", verbose=False,
    )  # fmt: skip


def epochs(job: Job) -> Epochs:
    """`shuffle=True`: chunks in random order, and the samples within each."""
    from litdata import StreamingDataLoader, StreamingDataset

    kind = Source.open(Path(job.source)).kind
    transform = decoded if kind.content == "picture" else None
    dataset = StreamingDataset(job.store, shuffle=True, drop_last=False, seed=1, transform=transform)
    loader = StreamingDataLoader(dataset, batch_size=kind.batch, **loader_options(job.workers, normalise=job.normalise))
    return lambda _: loader


def random(job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """`StreamingDataset.__getitem__`."""
    from litdata import StreamingDataset

    return one_by_one(StreamingDataset(job.store, shuffle=False))


def rank(job: Job) -> Iterable[int]:
    """By torch.distributed."""
    with process_group():
        yield from read_labels(epochs(job)(0))


def _sample(values: Any, index: int) -> dict[str, Any]:
    value = values[index]
    return {"value": value if isinstance(value, bytes) else np.array(value), "label": index}
