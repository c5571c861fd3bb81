"""What several contenders need around PyTorch's DataLoader. Starts in their environments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import normalised, picture


def decoded(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with its picture decoded."""
    return {"value": picture(sample["value"]), "label": sample["label"]}


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """PyTorch's own."""
    from torch.utils.data import default_collate

    return default_collate(list(samples))


def collate_normalised(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pictures stacked and normalised as one array, which is faster than one by one."""
    batch = collate(samples)
    return batch | {"value": normalised(np.asarray(batch["value"]))}


def loader_options(workers: int, *, normalise: bool) -> dict[str, Any]:
    """Workers that live as long as the loader."""
    found = {"num_workers": workers, "persistent_workers": workers > 0}
    return found | {"collate_fn": collate_normalised if normalise else collate}


def one_by_one(dataset: Any) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """For `random`: of a dataset that has nothing for several samples at once."""
    return lambda index: dataset[index]["value"], lambda indexes: np.stack([dataset[index]["value"] for index in indexes])


@contextmanager
def process_group() -> Iterator[None]:
    """For `rank`: of those that ask torch.distributed who they are."""
    import torch.distributed

    torch.distributed.init_process_group("gloo")
    yield
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def read_labels(batches: Iterable[Mapping[str, Any]]) -> list[int]:
    """All of an epoch."""
    return [int(label) for batch in batches for label in batch["label"]]
