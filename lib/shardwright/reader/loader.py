"""A loader is an `Iterable` of batches: each `for` is the rest of the current epoch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shardwright.errors import ConfigError, SchemaError, StateError, WorldError
from shardwright.format.layout import PAD
from shardwright.order import Batches, EpochOrder, Last, LoaderState, Shuffle, World
from shardwright.reader.columns import Batch
from shardwright.transforms import Normalise

if TYPE_CHECKING:
    from shardwright.reader.dataset import Dataset

_SAMPLES_AT_ONCE = 65536
"""The order of so many samples is computed together: a permutation costs 80 ns a sample, and 250 µs for each shard."""


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """What `Dataset.loader` takes. Raises ConfigError with all that is wrong."""

    batch_size: int
    world: World
    seed: int
    shuffle: Shuffle
    window_blocks: int | None
    last: Last
    epochs: int | None
    normalise: bool | tuple[str, ...]
    transform: Callable[[Batch], Batch] | None
    node_local: bool

    def __post_init__(self) -> None:
        window, epochs = self.window_blocks, self.epochs
        expected = {
            f"batch_size: expected at least 1, found {self.batch_size!r}": self.batch_size >= 1,
            f"seed: expected 0 to 2**64 - 1, found {self.seed!r}": 0 <= self.seed < 2**64,
            f"shuffle: expected none, window or global, found {self.shuffle!r}": self.shuffle in ("none", "window", "global"),
            f"window_blocks: expected at least 1, found {window!r}": window is None or window >= 1,
            f"last: expected short, drop or pad, found {self.last!r}": self.last in ("short", "drop", "pad"),
            f"epochs: expected at least 0, found {epochs!r}": epochs is None or epochs >= 0,
        }
        problems = [problem for problem, fine in expected.items() if not fine]
        if problems:
            raise ConfigError(problems)


@dataclass(kw_only=True)
class Metrics:
    """What a loader has done so far, on this rank. `bytes` are those of the decoded values."""

    batches: int = 0
    samples: int = 0
    dropped: int = 0
    """Samples that no rank took at the end of an epoch."""
    bytes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"order": 0.0, "fetch": 0.0, "decode": 0.0, "transform": 0.0})


class Loader(Iterable[Batch]):
    """Batches for one rank, made by `Dataset.loader`.

    ``for batch in loader`` is the rest of the current epoch; the next ``for`` is the next epoch. A batch is counted in the
    state as soon as it is handed out. With ``last="pad"`` every batch has a bool array ``_pad``: True for a repeated sample.
    """

    def __init__(self, dataset: Dataset, options: LoaderOptions) -> None:
        self.dataset = dataset
        self.options = options
        self._plan = dataset.plan(options.seed, options.shuffle, options.window_blocks)
        self._position = (0, 0)
        self._metrics = Metrics()
        self._normalise = _normalisers(dataset, options.normalise)
        if options.node_local:
            _check_node_local(dataset, options.world)
        if options.epochs != 0 and len(self) == 0:
            raise WorldError(
                f"{len(dataset)} samples, {options.world.size} ranks, batch size {options.batch_size}: an epoch has no batch "
                f"with last={options.last!r}; read with fewer ranks or smaller batches, or last='pad'"
            )

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self._position[0]

    @property
    def remaining(self) -> int:
        """How many batches are left in the current epoch."""
        return len(self._batches(self._position[1]))

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self._batches(0))

    def __iter__(self) -> Iterator[Batch]:
        if self.options.epochs is not None and self.epoch >= self.options.epochs:
            return iter(())
        return self._rest_of_epoch()

    def state_dict(self) -> dict[str, Any]:
        """The state after the last batch handed out: JSON, less than 1 KiB, the same on all ranks."""
        return self._state(*self._position).to_json()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which may come from a loader of another world size or batch size.

        Raises StateError, with both values, when it belongs to other content, or another split, selection, seed or shuffle.
        """
        parsed = LoaderState.parse(state)
        parsed.check_continues(self._state(0, 0))
        self._check_consumed(parsed.samples_consumed)
        self._position = parsed.epoch, parsed.samples_consumed

    def state_at(self, samples_consumed: int, *, epoch: int) -> dict[str, Any]:
        """The state after `samples_consumed` samples of `epoch` by all ranks together, whatever this loader has handed out."""
        self._check_consumed(samples_consumed)
        position = (epoch, samples_consumed) if len(self._batches(samples_consumed)) else (epoch + 1, 0)
        return self._state(*position).to_json()

    def metrics(self) -> Metrics:
        """What has been done so far: a copy."""
        return dataclasses.replace(self._metrics, seconds=dict(self._metrics.seconds))

    def _state(self, epoch: int, samples_consumed: int) -> LoaderState:
        options = self.options
        return LoaderState(
            content_id=self._plan.content_id, split=self.dataset.source.catalog.split, selection=self.dataset.selection,
            seed=options.seed, shuffle=options.shuffle,
            window_blocks=self._plan.window_blocks if self._plan.shuffle == "window" else None,
            epoch=epoch, samples_consumed=samples_consumed,
        )  # fmt: skip

    def _check_consumed(self, samples_consumed: int) -> None:
        if not 0 <= samples_consumed <= self._plan.total:
            raise StateError(f"{samples_consumed} samples consumed, of an epoch that has {self._plan.total}")

    def _batches(self, consumed: int) -> Batches:
        total = self._plan.total
        wrap = total - total % max(len(self._plan.shards), 1)
        options = self.options
        return Batches(
            world=options.world, batch_size=options.batch_size, total=total, consumed=consumed, last=options.last, wrap=wrap
        )

    def _rest_of_epoch(self) -> Iterator[Batch]:
        epoch, consumed = position = self._position
        order, batches = EpochOrder(self._plan, epoch), self._batches(consumed)
        size = self.options.batch_size
        chunk = size * max(1, _SAMPLES_AT_ONCE // size)
        count = len(batches)
        for number in range(count):
            start = number * size % chunk
            if start == 0:
                located, padded = self._locate(order, batches, number * size, number * size + chunk)
            if self._position != position:
                raise RuntimeError("this loader was iterated elsewhere, or its state was changed, during the iteration")
            rows = slice(start, start + size)
            batch = self._read([places[rows] for places in located], None if padded is None else padded[rows])
            after = batches.consumed_after(number)
            self._position = position = (epoch + 1, 0) if after is None else (epoch, after)
            if after is None:
                self._metrics.dropped += batches.dropped
            yield batch
        if not count:  # fewer samples than ranks were left
            self._metrics.dropped += batches.dropped
            self._position = epoch + 1, 0

    def _locate(self, order: EpochOrder, batches: Batches, start: int, stop: int) -> tuple[list[Any], Any]:
        """Where this rank's samples number `start` to `stop` lie, per column, and which are repeated."""
        began = time.perf_counter()
        positions, padded = batches.positions(start, stop)
        located = self.dataset.source.columns.locate(self.dataset.at(order, positions))
        self._metrics.seconds["order"] += time.perf_counter() - began
        return located, padded

    def _read(self, located: list[Any], padded: Any) -> Batch:
        columns, seconds, began = self.dataset.source.columns, self._metrics.seconds, time.perf_counter()
        fetched = columns.fetch(located)
        fetch_end = time.perf_counter()
        batch = columns.decode(fetched)
        decode_end = time.perf_counter()
        self._metrics.bytes += sum(map(_nbytes, batch.values()))
        self._metrics.samples += len(located[0])
        self._metrics.batches += 1
        for name, normalise in self._normalise.items():
            batch[name] = normalise(batch[name])
        if padded is not None:
            batch[PAD] = padded | batch[PAD] if PAD in batch else padded
        if self.options.transform is not None:
            batch = self.options.transform(batch)
        seconds["fetch"] += fetch_end - began
        seconds["decode"] += decode_end - fetch_end
        seconds["transform"] += time.perf_counter() - decode_end
        return batch


def _normalisers(dataset: Dataset, wanted: bool | tuple[str, ...]) -> dict[str, Normalise]:
    content = dataset.manifest.content
    fitted = {transform.field: transform for transform in content.transforms}
    if wanted is True:
        wanted = tuple(name for name in fitted if name in dataset.schema)
        if not wanted:
            raise SchemaError("normalise=True: no field that is read is standardised in the manifest; name the fields")
    out = {}
    for name in wanted or ():
        field = dataset.schema[name]
        source = fitted.get(name) or content.statistics.fields.get(name)
        mean, std = (source.mean, source.std) if source else ((), ())
        if not mean or None in mean or None in std or field.dtype in ("bool", "timestamp"):
            raise SchemaError(f"normalise: the manifest has no mean and std of field {name!r} ({field.dtype})")
        out[name] = Normalise([m for m in mean if m is not None], [s for s in std if s is not None])
    return out


def _check_node_local(dataset: Dataset, world: World) -> None:
    """Positions of one node lie in the shards of that node, and in no other, under these conditions alone."""
    shards = len(dataset.manifest.content.splits[dataset.source.catalog.split].shards)
    if dataset.selection is not None:
        raise WorldError("node_local=True reads whole splits: leave out shards=, slices and select")
    if shards % world.nodes:
        raise WorldError(
            f"node_local=True: {shards} shards on {world.nodes} nodes: expected a multiple, so that every node has equally "
            "many; prepare the dataset with shard.count a multiple of the nodes, or give every node all shards"
        )
    if not world.equal_ranks:
        raise WorldError(
            f"node_local=True: {world.size} ranks on {world.nodes} nodes: expected equally many ranks on every node"
        )


def _nbytes(values: np.ndarray[Any, Any]) -> int:
    if values.dtype != object:
        return values.nbytes
    return sum(value.nbytes if isinstance(value, np.ndarray) else len(value or ()) for value in values)
