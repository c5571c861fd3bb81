"""A `Loader` of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Unpack

import torch

from shardwright.errors import ConfigError
from shardwright.order import World
from shardwright.reader import Dataset, Loader, LoaderArguments, LoaderOptions, Metrics
from shardwright.torch.staging import OnItsWay, SideStream, Staging, one_ahead
from shardwright.torch.tensors import TensorBatch, tensors
from shardwright.torch.world import check_found
from shardwright.torch.world import world as found_world


def loader(
    dataset: Dataset,
    batch_size: int,
    *,
    device: torch.device | str | None = None,
    pin_memory: bool = False,
    world: World | None = None,
    **options: Unpack[LoaderArguments],
) -> TorchLoader:
    """Batches of `batch_size` samples for this rank as tensors on `device` (None: the CPU).

    For a CUDA device the next batch is on its way, in a stream of its own, while one is with the trainer; that costs one more
    batch of device memory, and two of page-locked memory. The stream that is current when a batch is taken may use it at once;
    another stream is the caller's to synchronise. `pin_memory` gives page-locked tensors of the CPU, to copy them oneself.

    `world` defaults to the rank and size of `torch.distributed` where that is initialised, else to `World.from_env()`; where
    both agree, the environment adds the nodes. One that was found so has to be right when batches are taken, too: else
    WorldError. `options` are those of `Dataset.loader`, with their defaults; `transform` gets NumPy arrays, before they become
    tensors. Raises what that raises, and ConfigError for a device that is not there.
    """
    made = dataset.loader(batch_size=batch_size, world=found_world() if world is None else world, **options)
    return TorchLoader(
        made, torch.device("cpu" if device is None else device), pin_memory=pin_memory, world_found=world is None
    )


@dataclass
class _HandedOut:
    """Where the trainer is, while its loader is a batch ahead."""

    state: dict[str, Any]
    epoch: int
    remaining: int


class TorchLoader(Iterable[TensorBatch]):
    """A `Loader` whose batches are tensors: the same iteration, the same state, after the last batch handed out."""

    def __init__(self, loader: Loader, device: torch.device, *, pin_memory: bool = False, world_found: bool = False) -> None:
        self._loader, self._device, self._pin, self._world_found = loader, device, pin_memory, world_found
        if pin_memory and device.type != "cpu":
            raise ConfigError([f"pin_memory=True: for tensors of the CPU, found device={str(device)!r}; leave one of them out"])
        if pin_memory and not torch.cuda.is_available():
            raise ConfigError(["pin_memory=True: PyTorch finds no CUDA device here to copy to; leave it out"])
        self._staging = Staging(SideStream(device)) if device.type == "cuda" else None
        self._handed_out: _HandedOut | None = None

    def __iter__(self) -> Iterator[TensorBatch]:
        if self._world_found:
            check_found(self._loader.options.world)
        if self._staging is not None:
            return self._looking_ahead(self._staging)
        return (self._here(tensors(batch)) for batch in self._loader)

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self._loader)

    @property
    def dataset(self) -> Dataset:
        """What is read."""
        return self._loader.dataset

    @property
    def options(self) -> LoaderOptions:
        """How it is read."""
        return self._loader.options

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self._loader.epoch if self._handed_out is None else self._handed_out.epoch

    @property
    def remaining(self) -> int:
        """How many batches are left in the current epoch."""
        return self._loader.remaining if self._handed_out is None else self._handed_out.remaining

    def state_dict(self) -> dict[str, Any]:
        """See `Loader.state_dict`."""
        return self._loader.state_dict() if self._handed_out is None else self._handed_out.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)
        self._handed_out = None

    def state_at(self, samples_consumed: int, *, epoch: int) -> dict[str, Any]:
        """See `Loader.state_at`."""
        return self._loader.state_at(samples_consumed, epoch=epoch)

    def metrics(self) -> Metrics:
        """See `Loader.metrics`; a batch that is on its way to the device counts."""
        return self._loader.metrics()

    def _here(self, batch: TensorBatch) -> TensorBatch:
        if self._pin:
            return {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        if self._device.type == "cpu":
            return batch
        return {name: value.to(self._device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}

    def _looking_ahead(self, staging: Staging) -> Iterator[TensorBatch]:
        """The loader is a batch ahead of `_handed_out`, which is what everybody else sees until this iteration ends."""
        self._settle()
        mine = self._handed_out = self._standing()
        try:
            for sent, standing in one_ahead(self._sent(staging)):
                if self._handed_out is not mine:
                    raise RuntimeError("this loader was iterated elsewhere, or its state was changed, during the iteration")
                mine = self._handed_out = standing
                yield staging.receive(sent)
        finally:
            if self._handed_out is mine:
                self._settle()

    def _sent(self, staging: Staging) -> Iterator[tuple[OnItsWay, _HandedOut]]:
        for batch in self._loader:
            yield staging.send(tensors(batch)), self._standing()

    def _standing(self) -> _HandedOut:
        return _HandedOut(self._loader.state_dict(), self._loader.epoch, self._loader.remaining)

    def _settle(self) -> None:
        """Back to the last batch handed out: one that was taken ahead of it comes again."""
        if self._handed_out is not None:
            self._loader.load_state_dict(self._handed_out.state)
            self._handed_out = None
