"""Contender: MosaicML Streaming, MDS shards of 16 MB without compression, its StreamingDataset in PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.process import Epochs, Job
from tests.benchmarks.peers.readers.torch_batches import decoded, loader_options, one_by_one, process_group, read_labels
from tests.benchmarks.peers.source import Source


def convert(job: Job) -> None:
    """A picture as its bytes, a table's row as one vector."""
    from streaming import MDSWriter  # type: ignore[import-not-found]

    source = Source.open(Path(job.source))
    kind = source.kind
    dtype = "float32" if kind.content == "table" else "uint8"
    value = "bytes" if kind.content == "picture" else f"ndarray:{dtype}:{','.join(map(str, kind.shape))}"
    with MDSWriter(out=job.store, columns={"value": value, "label": "int"}, size_limit=2**24, progress_bar=False) as writer:
        for label, sample in source.samples():
            writer.write({"value": sample if isinstance(sample, bytes) else np.array(sample), "label": label})


def epochs(job: Job) -> Epochs:
    """`shuffle=True` with its default algorithm, which shuffles within blocks of shards."""
    from torch.utils.data import DataLoader

    kind = Source.open(Path(job.source)).kind
    dataset = _open(job, shuffle=True, batch_size=kind.batch, decode=kind.content == "picture")
    loader = DataLoader(dataset, batch_size=kind.batch, **loader_options(job.workers, normalise=job.normalise))
    return lambda _: loader


def random(job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """`StreamingDataset.__getitem__`."""
    return one_by_one(_open(job, shuffle=False, batch_size=1, decode=False))


def rank(job: Job) -> Iterable[int]:
    """By torch.distributed."""
    with process_group():
        yield from read_labels(epochs(job)(0))


def _open(job: Job, *, shuffle: bool, batch_size: int, decode: bool) -> Any:
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory  # type: ignore[import-not-found]

    class Decoding(StreamingDataset):  # type: ignore[misc]  # as its documentation has transforms
        def __getitem__(self, at: Any) -> Any:
            return decoded(super().__getitem__(at))

    if job.world == 1:
        clean_stale_shared_memory()  # of a process that was killed; of several ranks one would remove what another just made
    made = Decoding if decode else StreamingDataset
    return made(local=job.store, shuffle=shuffle, shuffle_seed=1, batch_size=batch_size)
