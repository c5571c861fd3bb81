"""Making the batches of an epoch: fetched in the order that is asked for, decoded by threads or at once, damage replaced."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import DecodeError, ShardwrightError
from shardwright.format.layout import PAD
from shardwright.order import Batches, Plan
from shardwright.reader.ahead import Memory, made_ahead, read_ahead
from shardwright.reader.buffers import Buffers
from shardwright.reader.columns import Batch
from shardwright.reader.damage import damaged_rows, named_damage
from shardwright.reader.finishing import Finishing
from shardwright.reader.metrics import Meter
from shardwright.reader.options import LoaderOptions
from shardwright.reader.threads import Ahead, Inline, Pool, Running
from shardwright.reader.transformed import transformed
from shardwright.storage.readahead import HeldRanges, Spans

if TYPE_CHECKING:
    from shardwright.reader.dataset import Source

_log = logging.getLogger(__name__)
I64 = npt.NDArray[np.int64]
_SAMPLES_AT_ONCE = 65536
"""The order of so many samples is computed together: a permutation costs 80 ns a sample, and 250 µs for each shard."""
_TRIES = 16
"""So many other samples are tried in place of one that can't be decoded."""
_NAMED = 8
"""So many replaced samples are named in the metrics; the first and every thousandth are logged."""
_LOG_EVERY = 1000
_READY = 8
"""At most so many batches are made and wait for the trainer."""


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """Samples of an epoch, n of them."""

    positions: I64
    indexes: I64
    """On disk."""
    located: list[I64]
    """Of each column, what it needs to know to fetch them."""
    padded: npt.NDArray[np.bool_] | None


@dataclass(kw_only=True)
class MadeBatch:
    """A batch that is being made."""

    draw: _Draw
    rows: slice
    batch: Batch
    running: Running | None = None
    error: ShardwrightError | OSError | None = None
    """Why it could not be begun."""
    nbytes: int = 0
    """Of memory that it takes: after the transform."""
    decoded_bytes: int = 0

    @property
    def samples(self) -> int:
        """How many it has."""
        return len(self.draw.positions[self.rows])


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the batches of an epoch are made of; `indexes` says where on disk the samples at positions of the epoch lie."""

    source: Source
    plan: Plan
    epoch: int
    batches: Batches
    indexes: Callable[[I64], I64]
    options: LoaderOptions
    finishing: Finishing
    buffers: Buffers
    memory: Memory | None
    """None where nothing is fetched ahead, since all parts are mapped."""
    metrics: Meter

    def by(self, threads: int) -> AbstractContextManager[Iterable[MadeBatch]]:
        """The batches, made by threads ahead of the trainer; with 0 by the trainer's own, when it asks for one."""
        if not threads:
            return closing(self._all(0, Inline(), self._hold(None)))
        held: list[HeldRanges] = []  # of the thread that makes batches

        def make(first: int) -> Generator[MadeBatch]:
            holding = self._hold(ahead.wanted)
            held[:] = [holding] if isinstance(holding, HeldRanges) else []
            return self._all(first, Pool(threads), holding)

        def cancel() -> None:
            for one in held:
                one.cancel()

        ahead: Ahead[MadeBatch]  # which `make` asks whether its batches are still wanted
        limit = made_ahead(self.options.memory_limit_bytes)
        ahead = Ahead(make, limit=limit, most=_READY, queued=self.metrics.queued, cancel=cancel)
        return ahead

    def fetched(self) -> Generator[list[Any]]:
        """What the batches are made of: of each the stored values, one entry a column. Nothing is decoded."""
        with self._hold(None) as held:
            for draw, rows in self._located(0, held):
                yield self.source.columns.fetch([places[rows] for places in draw.located], held)

    def _hold(self, wanted: Callable[[], bool] | None) -> AbstractContextManager[HeldRanges | None]:
        """What is fetched ahead of remote parts."""
        if self.memory is None:
            return nullcontext()
        return self.source.columns.files.hold(self.memory.held, self.metrics.traffic, wanted)

    def _all(self, first: int, work: Inline | Pool, holding: AbstractContextManager[HeldRanges | None]) -> Generator[MadeBatch]:
        """The batches from number `first` on."""
        with ExitStack() as stack:
            held = stack.enter_context(holding)
            stack.enter_context(work)
            begun: deque[MadeBatch] = deque()
            for number, (draw, rows) in enumerate(self._located(first, held)):
                begun.append(self._begin(draw, rows, held, work))
                if number == 0 or len(begun) == work.batches:  # nobody should wait for more than the first
                    yield self._finish(begun.popleft())
            while begun:
                yield self._finish(begun.popleft())

    def _located(self, first: int, held: HeldRanges | None) -> Iterator[tuple[_Draw, slice]]:
        """The batches to read; of remote parts their bytes are asked for before."""
        found = self._draws(first)
        if held is None or self.memory is None:
            return found
        columns, units, most = self.source.columns, self.memory.units, self.memory.held // 4

        def needs(batch: tuple[_Draw, slice]) -> Spans:
            draw, rows = batch
            return columns.needs([places[rows] for places in draw.located], units, most)

        return read_ahead(found, needs, held)

    def _draws(self, first: int) -> Iterator[tuple[_Draw, slice]]:
        size = self.options.batch_size
        chunk = max(1, _SAMPLES_AT_ONCE // size)
        for number in range(first, len(self.batches)):
            if number == first or number % chunk == 0:
                start = number // chunk * chunk * size
                draw = self._draw(start, start + chunk * size)
            rows = number % chunk * size
            yield draw, slice(rows, rows + size)

    def _draw(self, start: int, stop: int) -> _Draw:
        """This rank's samples number `start` to `stop`."""
        began = time.perf_counter()
        positions, padded = self.batches.positions(start, stop)
        indexes = self.indexes(positions)
        located = self.source.columns.locate(indexes)
        self.metrics.seconds["order"] += time.perf_counter() - began
        return _Draw(positions=positions, indexes=indexes, located=located, padded=padded)

    def _begin(self, draw: _Draw, rows: slice, held: HeldRanges | None, work: Inline | Pool) -> MadeBatch:
        """Have a batch made: fetched now, decoded and normalised by `work`."""
        columns, seconds, began = self.source.columns, self.metrics.seconds, time.perf_counter()
        try:
            fetched = columns.fetch([places[rows] for places in draw.located], held)
        except (ShardwrightError, OSError) as error:
            return MadeBatch(draw=draw, rows=rows, batch={}, error=error)
        seconds["fetch"] += (begun := time.perf_counter()) - began
        finish = self.finishing.of(self.epoch, draw.positions[rows], draw.indexes[rows])
        batch, steps = columns.steps(fetched, finish, self.buffers)
        running = work.run(steps)
        seconds["decode_wait"] += time.perf_counter() - begun
        return MadeBatch(draw=draw, rows=rows, batch=batch, running=running)

    def _finish(self, made: MadeBatch) -> MadeBatch:
        """The batch, when it is decoded; with pad flags, and after the transform."""
        seconds, began = self.metrics.seconds, time.perf_counter()
        try:
            if made.error is not None:
                raise made.error
            assert made.running is not None
            if worked := made.running.finish():
                seconds["decode"] += worked
            batch = made.batch
        except DecodeError:
            batch = self._read_damaged(made.draw.positions[made.rows], made.draw.indexes[made.rows])
        seconds["decode_wait"] += time.perf_counter() - began
        made.decoded_bytes = made.nbytes = sum(map(_nbytes, batch.values()))
        if (padded := made.draw.padded) is not None:
            batch[PAD] = padded[made.rows] | batch[PAD] if PAD in batch else padded[made.rows]
        if self.options.transform is not None:
            began = time.perf_counter()
            batch = transformed(self.options.transform, batch, made.samples)
            made.nbytes = sum(map(_nbytes, batch.values()))
            seconds["transform"] += time.perf_counter() - began
        made.batch = batch
        return made

    def _read_damaged(self, positions: I64, indexes: I64) -> Batch:
        """The batch with substitutes for what can't be decoded, or the error that names it."""
        source = self.source
        indexes = indexes.copy()
        if self.options.on_error == "replace":
            for row, problem in damaged_rows(source, indexes).items():
                indexes[row] = self._substitute(int(positions[row]), problem)
        with named_damage(source, indexes):
            finish = self.finishing.of(self.epoch, positions, indexes)
            return source.columns.decode(source.columns.fetch(source.columns.locate(indexes)), finish)

    def _substitute(self, position: int, problem: str) -> int:
        """The sample on disk that takes the place of the one at `position`: a pure function of (seed, epoch, position)."""
        metrics = self.metrics
        for index in self.indexes(self.plan.substitutes(self.epoch, position, _TRIES)):
            if not damaged_rows(self.source, np.array([index])):
                metrics.replaced += 1
                metrics.replaced_first = (*metrics.replaced_first, problem)[:_NAMED]
                if metrics.replaced % _LOG_EVERY == 1:
                    _log.warning("%s; another sample takes its place (%d so far)", problem, metrics.replaced)
                return int(index)
        raise DecodeError(f"{problem}; none of {_TRIES} other samples of its shard can be decoded either")


def _nbytes(values: np.ndarray[Any, Any]) -> int:
    if values.dtype != object:
        return values.nbytes
    return sum(_value_bytes(value) for value in values.flat)


def _value_bytes(value: object) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str | bytes):
        return len(value)
    return 0 if value is None else sys.getsizeof(value)  # of a transform's own kind
