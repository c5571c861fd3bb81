"""Batches as PyTorch tensors: ``import shardwright.torch as swt; swt.loader(dataset, batch_size=256, device="cuda")``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import MissingDependencyError
from shardwright.order import Last, Sampling, Shuffle, World
from shardwright.reader import Dataset, Loader, Metrics, OnError

try:
    import torch
except ImportError as error:
    raise MissingDependencyError("shardwright.torch needs PyTorch: pip install 'shardwright[torch]'") from error

TensorBatch = dict[str, Any]
"""Name -> Tensor; a list where NumPy has an object array (strings, bytes, arrays of several shapes)."""


def loader(
    dataset: Dataset,
    batch_size: int,
    *,
    device: torch.device | str | None = None,
    world: World | None = None,
    seed: int = 0,
    shuffle: Shuffle = "window",
    window_blocks: int | None = None,
    last: Last = "short",
    epochs: int | None = None,
    normalise: bool | Sequence[str] = False,
    transform: Callable[[dict[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]] | None = None,
    node_local: bool = False,
    on_error: OnError = "raise",
    sampling: Sampling | None = None,
    samples_per_epoch: int | None = None,
    memory_limit_bytes: int = 2**30,
) -> TorchLoader:
    """Batches of `batch_size` samples for this rank as tensors on `device` (None: the CPU).

    `world` defaults to the rank and size of `torch.distributed` where that is initialised, else to `World.from_env()`; where
    both agree, the environment adds the nodes. `transform` gets NumPy arrays, before they become tensors. Everything else is as
    in `Dataset.loader`, and so are the errors.
    """
    made = dataset.loader(
        batch_size=batch_size, world=_world() if world is None else world, seed=seed, shuffle=shuffle,
        window_blocks=window_blocks, last=last, epochs=epochs, normalise=normalise, transform=transform,
        node_local=node_local, on_error=on_error, sampling=sampling, samples_per_epoch=samples_per_epoch,
        memory_limit_bytes=memory_limit_bytes,
    )  # fmt: skip
    return TorchLoader(made, None if device is None else torch.device(device))


class TorchLoader(Iterable[TensorBatch]):
    """A `Loader` whose batches are tensors: the same iteration, the same state."""

    def __init__(self, loader: Loader, device: torch.device | None) -> None:
        self._loader, self._device = loader, device

    def __iter__(self) -> Iterator[TensorBatch]:
        return ({name: self._tensor(values) for name, values in batch.items()} for batch in self._loader)

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self._loader)

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self._loader.epoch

    @property
    def remaining(self) -> int:
        """How many batches are left in the current epoch."""
        return self._loader.remaining

    def state_dict(self) -> dict[str, Any]:
        """See `Loader.state_dict`."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)

    def state_at(self, samples_consumed: int, *, epoch: int) -> dict[str, Any]:
        """See `Loader.state_at`."""
        return self._loader.state_at(samples_consumed, epoch=epoch)

    def metrics(self) -> Metrics:
        """See `Loader.metrics`."""
        return self._loader.metrics()

    def _tensor(self, values: npt.NDArray[Any]) -> Any:
        if values.dtype == object:
            return values.tolist()
        if values.dtype.kind == "M":
            values = values.view(np.int64)  # Torch has no timestamps: microseconds since 1970
        tensor = torch.from_numpy(values)
        if self._device is None or self._device.type == "cpu":
            return tensor
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)  # only a pinned copy can overlap with compute
        return tensor.to(self._device)


def _world() -> World:
    found = World.from_env()
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return found if (found.rank, found.size) == (rank, size) else World(rank, size)
