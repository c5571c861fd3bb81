"""Contender: PyTorch's DataLoader over a mapped .npy file; pictures are files of their own, as ImageFolder has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import picture
from tests.benchmarks.peers.process import Epochs, Job
from tests.benchmarks.peers.readers.torch_batches import loader_options
from tests.benchmarks.peers.source import Source


def convert(job: Job) -> None:
    """values.npy, or 000000.jpg and so on."""
    source, store = Source.open(Path(job.source)), Path(job.store)
    store.mkdir()
    if source.kind.content == "picture":
        for label, data in source.samples():
            (store / f"{label:06}.jpg").write_bytes(data)
    else:
        np.save(store / "values.npy", source.values)


def epochs(job: Job) -> Epochs:
    """`shuffle=True`: a permutation of all samples."""
    from torch.utils.data import DataLoader

    kind, store = Source.open(Path(job.source)).kind, Path(job.store)
    dataset: Any = _Pictures(store, kind.samples) if kind.content == "picture" else _Rows(store)
    loader: Any = DataLoader(
        dataset, batch_size=kind.batch, shuffle=True, **loader_options(job.workers, normalise=job.normalise)
    )
    return lambda _: loader


def rank(job: Job) -> Iterable[int]:
    """`DistributedSampler`."""
    from torch.utils.data import DistributedSampler

    samples: Any = range(Source.open(Path(job.source)).kind.samples)
    return DistributedSampler(samples, num_replicas=job.world, rank=job.rank, seed=1)


class _Rows:
    """A map-style dataset."""

    def __init__(self, store: Path) -> None:
        self._values = np.load(store / "values.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"value": np.array(self._values[index]), "label": index}


class _Pictures:
    """A map-style dataset."""

    def __init__(self, store: Path, samples: int) -> None:
        self._store, self._samples = store, samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"value": picture((self._store / f"{index:06}.jpg").read_bytes()), "label": index}
