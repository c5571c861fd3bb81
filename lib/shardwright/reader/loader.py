"""A loader is an `Iterable` of batches: each `for` is the rest of the current epoch."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.errors import StateError, WorldError
from shardwright.order import Batches, EpochOrder, LoaderState, World
from shardwright.order.sampling import describe_sampling
from shardwright.reader.ahead import Memory, made_ahead, share_memory, stored_bytes
from shardwright.reader.arrow import arrow_table
from shardwright.reader.buffers import Buffers
from shardwright.reader.columns import Batch
from shardwright.reader.finishing import Finishing, check_geometry
from shardwright.reader.making import Making
from shardwright.reader.metrics import Meter, Metrics
from shardwright.reader.normalise import inverse, normalising
from shardwright.reader.options import LoaderOptions
from shardwright.reader.sampling import open_sampler
from shardwright.reader.threads import default_threads
from shardwright.schema import Schema
from shardwright.transforms import Normalise

if TYPE_CHECKING:
    from shardwright.reader.dataset import Dataset, Source

_log = logging.getLogger(__name__)
I64 = npt.NDArray[np.int64]


class Loader(Iterable[Batch]):
    """Batches for one rank, made by `Dataset.loader`.

    ``for batch in loader`` is the rest of the current epoch; the next ``for`` is the next epoch. A batch is counted in the
    state as soon as it is handed out. With ``last="pad"`` every batch has a bool array ``_pad``: True for a repeated sample.
    """

    def __init__(self, dataset: Dataset, options: LoaderOptions) -> None:
        self.dataset = dataset
        self.options = options
        self._plan = dataset.plan(options.seed, options.shuffle, options.window_blocks)
        self._sampler = self._sampling = None
        if options.sampling is not None:
            per_epoch = options.samples_per_epoch or len(dataset)
            self._plan = dataclasses.replace(self._plan, shuffle="global", shards=(0,), samples=(per_epoch,))
            self._sampler = open_sampler(dataset, options.sampling, self._plan)
            self._sampling = describe_sampling(options.sampling, per_epoch)  # now: hashing weights takes its time
        elif options.shuffle == "window" and (order_by := dataset.manifest.content.plan.order_by):
            _warn_of_window(self._plan.content_id, order_by)
        self._position = (0, 0)
        self._buffers = self._new_buffers()
        self._meter = Meter()
        self._normalising = normalising(dataset, options.normalise)
        check_geometry(dataset.schema, options.decode)
        self._finishing = Finishing(
            normalise={name: Normalise(*transform.affine()) for name, transform in self._normalising.items()},
            geometry=options.decode, plan=self._plan, catalog=dataset.source.catalog, repeats=self._sampler is not None,
        )  # fmt: skip
        if options.node_local and dataset.source.origin is None:
            _check_node_local(dataset, options.world)
        self._threads = self._default_threads() if options.threads is None else options.threads
        self._source: Source = dataset.source
        self._memory: Memory | None = None
        if not dataset.source.columns.files.local:
            self._memory = self._share_memory()
            self._source = dataclasses.replace(dataset.source, cache_bytes=self._memory.cache)
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

    @property
    def threads(self) -> int:
        """How many threads decode, beside one that makes batches; 0: the caller's does all."""
        return self._threads

    @property
    def normalised(self) -> frozenset[str]:
        """The fields that come as (x - mean) / std, float32."""
        return frozenset(self._normalising)

    @property
    def schema(self) -> Schema:
        """The fields that are read, with the shapes that they have in batches; those of `normalised` become float32."""
        return self._finishing.schema(self.dataset.schema)

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self._batches(0))

    def __iter__(self) -> Iterator[Batch]:
        if self.options.epochs is not None and self.epoch >= self.options.epochs:
            return iter(())
        return self._rest_of_epoch()

    def in_turn(self, first: int, step: int) -> Iterator[Batch]:
        """Batches number `first`, `first` + `step`, … of the rest of the epoch: those of one of `step` workers of this rank."""
        return self._rest_of_epoch(first, step)

    def stored(self) -> Generator[list[Any]]:
        """What the rest of the epoch is made of, to measure how fast it comes: the stored values, one a column, piece by piece.

        They are fetched in the same order, and as many at a time and as far ahead, as for batches, but not decoded. The loader
        stays where it is; its metrics count requests and the seconds of the order. Values of local parts are read when they
        are touched.
        """
        self._source = self._source.settled(self._served())
        epoch, consumed = self._position
        return self._making(epoch, self._batches(consumed), self._new_buffers()).fetched()

    def as_arrow(self) -> Iterator[pa.Table]:
        """What iterating gives, as Arrow tables: see `shardwright.reader.arrow`."""
        return (arrow_table(batch, self.schema) for batch in self)

    def inverse(self, batch: Batch) -> Batch:
        """`Dataset.inverse` of a batch of this loader, which knows what it normalised."""
        return inverse(self.dataset, batch, self._normalising)

    def state_dict(self) -> dict[str, Any]:
        """The state after the last batch handed out: JSON, less than 1 KiB, the same on all ranks."""
        return self._state(*self._position).to_json()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which may come from a loader of another world size or batch size.

        Raises StateError, with both values, when it belongs to other content, or another split, selection, seed, shuffle
        or sampling.
        """
        parsed = LoaderState.parse(state)
        parsed.check_continues(self._state(0, 0))
        self._check_consumed(parsed.samples_consumed)
        self._position = parsed.epoch, parsed.samples_consumed

    def state_at(self, samples_consumed: int, *, epoch: int) -> dict[str, Any]:
        """The state after `samples_consumed` samples of `epoch` by all ranks together, whatever this loader has handed out."""
        if epoch < 0:
            raise StateError(f"epoch {epoch}: epochs count from 0")
        self._check_consumed(samples_consumed)
        position = (int(epoch), int(samples_consumed)) if len(self._batches(samples_consumed)) else (epoch + 1, 0)
        return self._state(*position).to_json()

    def state_after(self, batches: int) -> dict[str, Any]:
        """The state after `batches` more batches than the state now, epoch after epoch, whatever `epochs` says."""
        if batches < 0:
            raise StateError(f"batches: expected how many were taken since the state now, at least 0, found {batches}")
        if batches < self.remaining:
            epoch, consumed = self._position
        else:
            epochs, batches = divmod(batches - self.remaining, len(self))
            epoch, consumed = self.epoch + 1 + epochs, 0
        return self.state_at(consumed + batches * self.options.batch_size * self.options.world.size, epoch=epoch)

    def metrics(self) -> Metrics:
        """What has been done so far, and where the time went; any thread may ask."""
        return self._meter.read()

    def _state(self, epoch: int, samples_consumed: int) -> LoaderState:
        options, plan = self.options, self._plan
        return LoaderState(
            content_id=plan.content_id, split=self.dataset.source.catalog.split, selection=self.dataset.selection,
            seed=options.seed, shuffle=options.shuffle if self._sampling is None else "global",
            window_blocks=plan.window_blocks if plan.shuffle == "window" else None, sampling=self._sampling,
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

    def _rest_of_epoch(self, first: int = 0, step: int = 1) -> Iterator[Batch]:
        asked = time.perf_counter()
        epoch, consumed = position = self._position
        batches, meter = dataclasses.replace(self._batches(consumed), first=first, step=step), self._meter
        self._source = self._source.settled(self._served())
        meter.follow(self._source.columns.cache_counts)
        # an iteration that is left keeps its own: a thread may still fill them
        buffers, self._buffers = self._buffers, self._new_buffers()
        with self._making(epoch, batches, buffers).by(self._threads) as making:
            for number, made in enumerate(making):
                if self._position != position:
                    raise RuntimeError("this loader was iterated elsewhere, or its state was changed, during the iteration")
                after = batches.consumed_after(number)
                self._position = position = (epoch + 1, 0) if after is None else (epoch, after)
                meter.dropped += batches.dropped if after is None else 0
                given = time.perf_counter()
                meter.handed_out(made.samples, made.decoded_bytes, waited=given - asked)
                yield made.batch
                asked = time.perf_counter()
                meter.seconds["step"] += asked - given
        buffers.trim()
        self._buffers = buffers
        if not len(batches):  # fewer samples than ranks were left
            meter.dropped += batches.dropped
            self._position = epoch + 1, 0

    def _default_threads(self) -> int:
        """None where a batch is hardly more than one gather: handing it over would cost more than making it."""
        columns, options = self.dataset.source.columns, self.options
        if columns.files.local and columns.gathered_bytes is not None and not self._normalising and options.transform is None:
            return 0
        return default_threads(-(-options.world.size // options.world.nodes))

    def _new_buffers(self) -> Buffers:
        return Buffers(made_ahead(self.options.memory_limit_bytes))

    def _making(self, epoch: int, batches: Batches, buffers: Buffers) -> Making:
        return Making(
            source=self._source, plan=self._plan, epoch=epoch, batches=batches, indexes=functools.partial(self._indexes, epoch),
            options=self.options, finishing=self._finishing, buffers=buffers,
            metrics=self._meter,
            memory=None if self._source.columns.files.local else self._memory,
        )  # fmt: skip

    def _indexes(self, epoch: int, positions: I64) -> I64:
        """Where on disk the samples at `positions` lie."""
        if self._sampler is None:
            return self.dataset.at(EpochOrder(self._plan, epoch), positions)
        return self.dataset.on_disk(self._sampler(epoch, positions))

    def _served(self) -> range:
        """The shards that this rank reads, by their number among those opened."""
        if not self.dataset.whole or self._sampler is not None:
            return range(len(self.dataset.source.catalog.shards))
        world, shards = self.options.world, len(self._plan.shards)
        step = math.gcd(world.size, shards)
        return range(world.turn % step, shards, step)

    def _share_memory(self) -> Memory:
        dataset, options, files = self.dataset, self.options, self._source.columns.files
        return share_memory(
            options.memory_limit_bytes, dataset.source.catalog, self._plan, options.world, batch_size=options.batch_size,
            sample_bytes=stored_bytes(dataset.source.catalog, dataset.source.names), gap=files.gap_bytes,
            whole=dataset.whole,
        )  # fmt: skip


@functools.cache  # once for each dataset
def _warn_of_window(content_id: str, order_by: tuple[str, ...]) -> None:  # noqa: ARG001 - the cache's
    _log.warning(
        "the samples lie in the order of %s, and shuffle='window' is for samples that were shuffled when they were written: "
        "say shuffle='none' to read them in order, 'global' to shuffle them well",
        ", ".join(order_by),
    )


def _check_node_local(dataset: Dataset, world: World) -> None:
    """Positions of one node lie in the shards of that node, and in no other, under these conditions alone."""
    shards = len(dataset.manifest.content.splits[dataset.source.catalog.split].shards)
    if dataset.selection is not None:
        raise WorldError("node_local=True reads whole splits: leave out shards=, slices and select")
    if shards % world.nodes:
        raise WorldError(
            f"node_local=True: {shards} shards on {world.nodes} nodes: expected a multiple, so that every node has equally "
            "many; prepare the dataset with shard.count a multiple of the nodes, give every node all shards, or say "
            "open_dataset(…, origin=URL): shards that a node does not hold are read from there"
        )
    if not world.equal_ranks:
        raise WorldError(
            f"node_local=True: {world.size} ranks on {world.nodes} nodes: expected equally many ranks on every node"
        )
