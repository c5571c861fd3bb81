"""Contender: WebDataset, tar files of 16 MB, shuffled through a buffer. Not for tables: it has a file for each sample."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import picture
from tests.benchmarks.peers.process import Epochs, Job
from tests.benchmarks.peers.readers.torch_batches import loader_options
from tests.benchmarks.peers.source import Kind, Source

_BUFFER = 5000


def convert(job: Job) -> None:
    """A file of bytes and one with the number for each sample."""
    import webdataset  # type: ignore[import-not-found]

    source, store = Source.open(Path(job.source)), Path(job.store)
    store.mkdir()
    with webdataset.ShardWriter(str(store / "%04d.tar"), maxsize=2**24, verbose=0) as sink:
        for label, value in source.samples():
            sink.write({"__key__": f"{label:08}", "bin": bytes(value), "txt": str(label)})


def epochs(job: Job) -> Epochs:
    """Tar files in random order, and a shuffling buffer of 5,000 samples; batches are collated in the workers."""
    import webdataset

    kind = Source.open(Path(job.source)).kind
    tars = [str(path) for path in sorted(Path(job.store).glob("*.tar"))]
    options = loader_options(job.workers, normalise=job.normalise)
    dataset = webdataset.WebDataset(tars, shardshuffle=len(tars), seed=1, empty_check=False)
    dataset = dataset.shuffle(_BUFFER).map(functools.partial(_sample, kind=kind))
    dataset = dataset.batched(kind.batch, collation_fn=functools.partial(_collate, then=options.pop("collate_fn")))
    loader = webdataset.WebLoader(dataset, batch_size=None, **options)
    return lambda _: loader


def _sample(sample: dict[str, bytes], kind: Kind) -> tuple[Any, int]:
    data = sample["bin"]
    value = picture(data) if kind.content == "picture" else np.frombuffer(bytearray(data), np.uint8).reshape(kind.shape)
    return value, int(sample["txt"])


def _collate(samples: list[tuple[Any, int]], then: Callable[[list[dict[str, Any]]], Any]) -> Any:
    return then([{"value": value, "label": label} for value, label in samples])
