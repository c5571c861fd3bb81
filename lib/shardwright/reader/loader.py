"""A loader is an `Iterable` of batches: each `for` is the rest of the current epoch."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.errors import DecodeError, StateError, WorldError
from shardwright.format.layout import PAD
from shardwright.order import Batches, EpochOrder, LoaderState, World
from shardwright.order.sampling import describe_sampling
from shardwright.reader.ahead import Memory, read_ahead, share_memory, stored_bytes
from shardwright.reader.arrow import arrow_table
from shardwright.reader.columns import Batch
from shardwright.reader.damage import damaged_rows, read_located
from shardwright.reader.normalise import inverse, normalising
from shardwright.reader.options import LoaderOptions, Metrics
from shardwright.reader.sampling import open_sampler
from shardwright.storage.readahead import HeldRanges, Spans, Traffic
from shardwright.transforms import Normalise

if TYPE_CHECKING:
    from shardwright.reader.dataset import Dataset, Source

_log = logging.getLogger(__name__)
I64 = npt.NDArray[np.int64]
_SAMPLES_AT_ONCE = 65536
"""The order of so many samples is computed together: a permutation costs 80 ns a sample, and 250 µs for each shard."""
_TRIES = 16
"""So many other samples are tried in place of one that can't be decoded."""
_NAMED = 8
"""So many replaced samples are named in the metrics; the first and every thousandth are logged."""
_LOG_EVERY = 1000


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """Samples of an epoch, n of them."""

    positions: I64
    indexes: I64
    """On disk."""
    located: list[I64]
    """Of each column, what it needs to know to fetch them."""
    padded: npt.NDArray[np.bool_] | None


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
        self._metrics, self._traffic = Metrics(), Traffic()
        self._normalising = normalising(dataset, options.normalise)
        self._normalise = {name: Normalise(*transform.affine()) for name, transform in self._normalising.items()}
        if options.node_local:
            _check_node_local(dataset, options.world)
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
    def normalised(self) -> frozenset[str]:
        """The fields that come as (x - mean) / std, float32."""
        return frozenset(self._normalise)

    def __len__(self) -> int:
        """How many batches a whole epoch has."""
        return len(self._batches(0))

    def __iter__(self) -> Iterator[Batch]:
        if self.options.epochs is not None and self.epoch >= self.options.epochs:
            return iter(())
        return self._rest_of_epoch()

    def as_arrow(self) -> Iterator[pa.Table]:
        """What iterating gives, as Arrow tables: see `shardwright.reader.arrow`."""
        return (arrow_table(batch, self.dataset.schema) for batch in self)

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
        position = (epoch, samples_consumed) if len(self._batches(samples_consumed)) else (epoch + 1, 0)
        return self._state(*position).to_json()

    def state_after(self, batches: int) -> dict[str, Any]:
        """The state after `batches` more batches than the state now, epoch after epoch, whatever `epochs` says."""
        if batches < self.remaining:
            epoch, consumed = self._position
        else:
            epochs, batches = divmod(batches - self.remaining, len(self))
            epoch, consumed = self.epoch + 1 + epochs, 0
        return self.state_at(consumed + batches * self.options.batch_size * self.options.world.size, epoch=epoch)

    def metrics(self) -> Metrics:
        """What has been done so far: a copy."""
        traffic = self._traffic
        return dataclasses.replace(
            self._metrics, seconds=dict(self._metrics.seconds), requests=traffic.requests, fetched_bytes=traffic.bytes,
            held_bytes=traffic.held_bytes,
        )  # fmt: skip

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

    def _rest_of_epoch(self) -> Iterator[Batch]:
        epoch, consumed = position = self._position
        batches = self._batches(consumed)
        with self._hold() as held:
            for number, (draw, rows) in enumerate(self._located(epoch, batches, held)):
                if self._position != position:
                    raise RuntimeError("this loader was iterated elsewhere, or its state was changed, during the iteration")
                batch = self._read(epoch, draw, rows, held)
                after = batches.consumed_after(number)
                self._position = position = (epoch + 1, 0) if after is None else (epoch, after)
                if after is None:
                    self._metrics.dropped += batches.dropped
                yield batch
        if not len(batches):  # fewer samples than ranks were left
            self._metrics.dropped += batches.dropped
            self._position = epoch + 1, 0

    def _hold(self) -> AbstractContextManager[HeldRanges | None]:
        """What is fetched ahead of remote parts; None where parts are local."""
        return nullcontext() if self._memory is None else self._source.columns.files.hold(self._memory.held, self._traffic)

    def _located(self, epoch: int, batches: Batches, held: HeldRanges | None) -> Iterator[tuple[_Draw, slice]]:
        """The batches to read; of remote parts their bytes are asked for before."""
        found = self._draws(epoch, batches)
        if held is None or self._memory is None:
            return found
        columns, units, most = self._source.columns, self._memory.units, self._memory.held // 4

        def needs(batch: tuple[_Draw, slice]) -> Spans:
            draw, rows = batch
            return columns.needs([places[rows] for places in draw.located], units, most)

        return read_ahead(found, needs, held)

    def _draws(self, epoch: int, batches: Batches) -> Iterator[tuple[_Draw, slice]]:
        size = self.options.batch_size
        chunk = size * max(1, _SAMPLES_AT_ONCE // size)
        for number in range(len(batches)):
            start = number * size % chunk
            if start == 0:
                draw = self._draw(epoch, batches, number * size, number * size + chunk)
            yield draw, slice(start, start + size)

    def _share_memory(self) -> Memory:
        dataset, options, files = self.dataset, self.options, self._source.columns.files
        return share_memory(
            options.memory_limit_bytes, dataset.source.catalog, self._plan, options.world, batch_size=options.batch_size,
            sample_bytes=stored_bytes(dataset.source.catalog, dataset.source.names), gap=files.storage.gap_bytes,
            whole=dataset.whole,
        )  # fmt: skip

    def _draw(self, epoch: int, batches: Batches, start: int, stop: int) -> _Draw:
        """This rank's samples number `start` to `stop`."""
        began = time.perf_counter()
        positions, padded = batches.positions(start, stop)
        indexes = self._indexes(epoch, positions)
        located = self._source.columns.locate(indexes)
        self._metrics.seconds["order"] += time.perf_counter() - began
        return _Draw(positions=positions, indexes=indexes, located=located, padded=padded)

    def _indexes(self, epoch: int, positions: I64) -> I64:
        """Where on disk the samples at `positions` lie."""
        if self._sampler is None:
            return self.dataset.at(EpochOrder(self._plan, epoch), positions)
        return self.dataset.on_disk(self._sampler(epoch, positions))

    def _read(self, epoch: int, draw: _Draw, rows: slice, held: HeldRanges | None) -> Batch:
        columns, seconds, began = self._source.columns, self._metrics.seconds, time.perf_counter()
        try:
            fetched = columns.fetch([places[rows] for places in draw.located], held)
            fetch_end = time.perf_counter()
            batch = columns.decode(fetched)
        except DecodeError:
            batch = self._read_damaged(epoch, draw.positions[rows], draw.indexes[rows])
            fetch_end = time.perf_counter()
        decode_end = time.perf_counter()
        self._metrics.bytes += sum(map(_nbytes, batch.values()))
        self._metrics.samples += len(draw.positions[rows])
        self._metrics.batches += 1
        for name, normalise in self._normalise.items():
            batch[name] = normalise(batch[name])
        if draw.padded is not None:
            batch[PAD] = draw.padded[rows] | batch[PAD] if PAD in batch else draw.padded[rows]
        if self.options.transform is not None:
            batch = self.options.transform(batch)
        seconds["fetch"] += fetch_end - began
        seconds["decode"] += decode_end - fetch_end
        seconds["transform"] += time.perf_counter() - decode_end
        return batch

    def _read_damaged(self, epoch: int, positions: I64, indexes: I64) -> Batch:
        """The batch with substitutes for what can't be decoded, or the error that names it."""
        source = self._source
        indexes = indexes.copy()
        if self.options.on_error == "replace":
            for row, problem in damaged_rows(source, indexes).items():
                indexes[row] = self._substitute(epoch, int(positions[row]), problem)
        return read_located(source, indexes, source.columns.locate(indexes))

    def _substitute(self, epoch: int, position: int, problem: str) -> int:
        """The sample on disk that takes the place of the one at `position`: a pure function of (seed, epoch, position)."""
        metrics = self._metrics
        for index in self._indexes(epoch, self._plan.substitutes(epoch, position, _TRIES)):
            if not damaged_rows(self._source, np.array([index])):
                metrics.replaced += 1
                metrics.replaced_first = (*metrics.replaced_first, problem)[:_NAMED]
                if metrics.replaced % _LOG_EVERY == 1:
                    _log.warning("%s; another sample takes its place (%d so far)", problem, metrics.replaced)
                return int(index)
        raise DecodeError(f"{problem}; none of {_TRIES} other samples of its shard can be decoded either")


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
