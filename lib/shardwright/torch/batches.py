"""Batches for the worker processes of a `torch.utils.data.DataLoader`.

The main process decides which batch comes when, and a DataLoader asks its workers in turn and keeps that order. So batches are
a map-style dataset, and the order is its sampler: all that a state is about stays in one process, and nothing has to be divided
among workers, or shared with them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Unpack

from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import DistributedSampler, get_worker_info

from shardwright.errors import ConfigError
from shardwright.order import World
from shardwright.reader import Dataset, Loader, LoaderArguments, LoaderOptions
from shardwright.reader.columns import Batch
from shardwright.torch.tensors import TensorBatch, tensors
from shardwright.torch.world import check_found
from shardwright.torch.world import world as found_world


def batches(dataset: Dataset, batch_size: int, *, world: World | None = None, **options: Unpack[LoaderArguments]) -> Batches:
    """This rank's batches for a DataLoader: ``DataLoader(data, sampler=data.sampler, batch_size=None, num_workers=4)``.

    The batches that come out, and their order, are those of `loader` with the same arguments, whatever `num_workers` is. Each
    `for` is an epoch: at first the rest of the one that a loaded state is in, afterwards whole ones. Workers started by spawn
    need a `transform` that can be sent to them. Unless `threads` is given, a worker has none beside its own.

    Arguments and errors are those of `loader`.
    """
    made = dataset.loader(batch_size=batch_size, world=found_world() if world is None else world, **options)
    return Batches(made, world_found=world is None)


_FOREIGN_KEY = (
    "expected a batch as its own sampler names it, found {!r}: say DataLoader(data, sampler=data.sampler, batch_size=None), "
    "without shuffle=, and let no framework put another sampler in its place"
)


class Key(NamedTuple):
    """Batch number `batch` of the rest of an epoch of which all ranks together have consumed so many samples."""

    epoch: int
    consumed: int
    batch: int


class Batches(TorchDataset[TensorBatch]):
    """A map-style dataset of whole batches, made by `batches`. What it is asked for comes from its `sampler`."""

    def __init__(self, loader: Loader, *, world_found: bool = False) -> None:
        self.sampler = EpochSampler(loader, world_found=world_found)
        self._dataset, self._options = loader.dataset, loader.options
        self._reader: _Reader | None = None

    def __getitem__(self, key: Key) -> TensorBatch:
        if not isinstance(key, Key):
            raise ConfigError([_FOREIGN_KEY.format(key)])
        if self._reader is None or self._reader.process != os.getpid():
            self._reader = _Reader(self._dataset, self._options)
        return tensors(self._reader.read(key))

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self.sampler)

    def state_after(self, batches: int) -> dict[str, Any]:
        """The state after `batches` batches of the latest `for` over the DataLoader, by the trainer's own count.

        It is that of a `Loader`: any loader of the same dataset, seed and shuffle goes on from it, here or in another world.
        """
        return self.sampler.state_after(batches)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next `for` continue from `state`. Raises StateError as `Loader.load_state_dict` does."""
        self.sampler.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_reader": None, "sampler": None}  # a worker reads what it is told to


class _Reader:
    """Reads in one process, which is asked for every n-th batch if it is one of n workers, and rarely for another."""

    def __init__(self, dataset: Dataset, options: LoaderOptions) -> None:
        self.process = os.getpid()
        worker = get_worker_info()
        self._workers = 1 if worker is None else worker.num_workers
        if worker is not None and options.threads is None:
            options = dataclasses.replace(options, threads=0)  # the workers share the processors among them
        self._loader = Loader(dataset, options)
        self._going: Iterator[Batch] = iter(())
        self._next: Key | None = None

    def read(self, key: Key) -> Batch:
        if key != self._next:
            self._loader.load_state_dict(self._loader.state_at(key.consumed, epoch=key.epoch))
            self._going = self._loader.in_turn(key.batch, self._workers)
        self._next = None  # should this fail
        batch = next(self._going)
        self._next = key._replace(batch=key.batch + self._workers)
        return batch


class EpochSampler(DistributedSampler[Any]):
    """Which batches come when, said in the main process.

    It is a DistributedSampler since that is what frameworks take for one that knows of ranks: Lightning, for one, puts its own
    over any other. `set_epoch` may be called, as for those; without, epoch follows epoch.
    """

    def __init__(self, loader: Loader, *, world_found: bool = False) -> None:
        self._loader = loader  # stands where the latest `for` began, and is never iterated
        self._world_found = world_found
        self._begun = False

    def __iter__(self) -> Iterator[Key]:
        return _Keys(self)

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self._loader)

    def set_epoch(self, epoch: int) -> None:
        """Let the next `for` be `epoch`: from its start, unless that is the one that a state was just loaded for."""
        if self._begun or epoch != self._loader.epoch:
            self.load_state_dict(self._loader.state_at(0, epoch=epoch))

    def state_after(self, batches: int) -> dict[str, Any]:
        """See `Batches.state_after`."""
        return self._loader.state_after(batches)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Batches.load_state_dict`."""
        self._loader.load_state_dict(state)
        self._begun = False

    def upcoming(self) -> dict[str, Any]:
        """The state that the next `for` begins in."""
        return self._loader.state_at(0, epoch=self._loader.epoch + 1) if self._begun else self._loader.state_dict()

    def begin(self) -> Iterator[Key]:
        """The keys of the next `for`."""
        if self._world_found:
            check_found(self._loader.options.world)
        self._loader.load_state_dict(self.upcoming())
        self._begun = True
        epochs, state = self._loader.options.epochs, self._loader.state_dict()
        remaining = self._loader.remaining if epochs is None or self._loader.epoch < epochs else 0
        return (Key(state["epoch"], state["samples_consumed"], batch) for batch in range(remaining))


class _Keys(Iterator[Key]):
    """One `for`: an epoch begins when its first key is asked for. torchdata's StatefulDataLoader saves and loads its state."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler
        self._keys: Iterator[Key] | None = None
        self._given = 0

    def __next__(self) -> Key:
        if self._keys is None:
            self._keys = self._sampler.begin()
        key = next(self._keys)
        self._given += 1
        return key

    def state_dict(self) -> dict[str, Any]:
        return self._sampler.upcoming() if self._keys is None else self._sampler.state_after(self._given)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sampler.load_state_dict(state)
