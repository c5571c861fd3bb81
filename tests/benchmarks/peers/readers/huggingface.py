"""Contender: Hugging Face datasets, saved as Arrow and mapped, whole batches by index.

An array is a list of fixed size, read in Arrow format and viewed as NumPy: its Array3D in NumPy format is much slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import batch_of, picture
from tests.benchmarks.peers.process import Batch, Epochs, Job
from tests.benchmarks.peers.source import Source


def convert(job: Job) -> None:
    """An array as a list of fixed size, a picture as its bytes, a table by columns."""
    import datasets  # type: ignore[import-not-found]
    import pyarrow as pa

    source = Source.open(Path(job.source))
    kind = source.kind
    columns: dict[str, Any]
    if kind.content == "table":
        columns = dict(zip(kind.columns, np.ascontiguousarray(source.values.T), strict=True))
    elif kind.content == "picture":
        columns = {"value": pa.array(source.pictures(), pa.binary())}
    else:
        columns = {"value": pa.FixedSizeListArray.from_arrays(np.array(source.values).reshape(-1), int(np.prod(kind.shape)))}
    datasets.Dataset(pa.table({**columns, "label": source.labels})).save_to_disk(job.store)


def epochs(job: Job) -> Epochs:
    """Batches of a new permutation: by `dataset[indexes]`, with workers inside PyTorch's DataLoader."""
    kind = Source.open(Path(job.source)).kind
    dataset = _open(job)
    if job.workers:
        return _with_workers(dataset, kind.batch, job.workers)

    def epoch(number: int) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(len(dataset))
        return (dataset[rows] for rows in np.array_split(order, range(kind.batch, len(order), kind.batch)))

    return epoch


def random(job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """`dataset[[index]]` and `dataset[indexes]`."""
    dataset = _open(job)
    return lambda index: dataset[[index]]["value"][0], lambda indexes: dataset[indexes]["value"]


def rank(job: Job) -> Iterable[int]:
    """`split_dataset_by_node`."""
    import datasets
    from datasets.distributed import split_dataset_by_node  # type: ignore[import-not-found]

    dataset = datasets.load_from_disk(job.store).shuffle(seed=1)
    labels: Iterable[int] = split_dataset_by_node(dataset, job.rank, job.world)["label"]
    return labels


def _open(job: Job) -> Any:
    import datasets

    kind, dataset = Source.open(Path(job.source)).kind, datasets.load_from_disk(job.store)
    if kind.content == "picture":
        return dataset.with_transform(_Decode(normalise=job.normalise))
    return dataset.with_format("numpy") if kind.content == "table" else _Arrays(dataset.with_format("arrow"), kind.shape)


class _Arrays:
    """A dataset of arrays; several indexes give arrays of several."""

    def __init__(self, dataset: Any, shape: tuple[int, ...]) -> None:
        self._dataset, self._shape = dataset, shape

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, indexes: Any) -> Batch:
        table = self._dataset[indexes]
        values = table.column("value").combine_chunks().flatten().to_numpy().reshape(-1, *self._shape)
        return {"value": values, "label": table.column("label").to_numpy()}


def _with_workers(dataset: Any, size: int, workers: int) -> Epochs:
    """Each index that the loader hands out is a whole batch, so that nothing is collated sample by sample."""
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    sampler = BatchSampler(RandomSampler(range(len(dataset))), size, drop_last=False)
    loader = DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=workers, persistent_workers=True)
    return lambda _: loader


class _Decode:
    """For `with_transform`."""

    def __init__(self, *, normalise: bool) -> None:
        self._normalise = normalise

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        values = batch_of([picture(data) for data in batch["value"]], normalise=self._normalise)
        return {"value": values, "label": np.asarray(batch["label"])}
