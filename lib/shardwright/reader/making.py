"""Making the batches of an epoch: fetched in the order that is asked for, decoded by threads or at once, damage replaced."""

from __future__ import annotations

import functools
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
from shardwright.reader.ahead import Memory, made_ahead, read_ahead, taken_at_once
from shardwright.reader.buffers import Buffers
from shardwright.reader.columns import Batch, Located
from shardwright.reader.damage import damaged_rows, read_samples
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
_TOGETHER_BYTES = 2**20
"""Batches that are gathered are made several at a time, up to so many bytes: the interpreter's own 50 µs are spent once."""
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
    located: list[Located]
    """What the columns need to know to fetch them."""
    padded: npt.NDArray[np.bool_] | None


@dataclass(kw_only=True)
class _Begun:
    """Batches that are made together, as one."""

    draw: _Draw
    rows: slice
    batch: Batch
    running: Running | None = None
    error: ShardwrightError | OSError | None = None
    """Why it could not be begun."""


@dataclass(kw_only=True, slots=True)
class MadeBatch:
    """A batch that is made."""

    batch: Batch
    samples: int
    decoded_bytes: int
    nbytes: int
    """Of memory that it takes: after the transform."""


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
        """What the batches are made of: the stored values, one entry a column, as they are read. Nothing is decoded."""
        with self._hold(None) as held:
            for draw, rows in self._located(0, held):
                yield self.source.columns.fetch([located[rows] for located in draw.located], held)

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
            begun: deque[_Begun] = deque()
            for number, (draw, rows) in enumerate(self._located(first, held)):
                begun.append(self._begin(draw, rows, held, work))
                if number == 0 or len(begun) == work.batches:  # nobody should wait for more than the first
                    yield from self._finish(begun.popleft())
            while begun:
                yield from self._finish(begun.popleft())

    def _located(self, first: int, held: HeldRanges | None) -> Iterator[tuple[_Draw, slice]]:
        """The samples to read together; of remote parts their bytes are asked for before."""
        found = self._draws(first)
        if held is None or self.memory is None:
            return found
        columns, units, most = self.source.columns, self.memory.units, self.memory.held // 4

        def needs(batch: tuple[_Draw, slice]) -> Spans:
            draw, rows = batch
            return columns.needs([located[rows] for located in draw.located], units, most)

        return read_ahead(found, needs, held)

    def _draws(self, first: int) -> Iterator[tuple[_Draw, slice]]:
        size, together = self.options.batch_size, self._together
        taken = self.source.columns.sample_bytes
        most = min(_SAMPLES_AT_ONCE, taken_at_once(self.options.memory_limit_bytes) // max(taken, 1))
        chunk = max(1, most // (size * together)) * together
        number = first
        while number < len(self.batches):
            if number == first or number % chunk == 0:
                start = number // chunk * chunk * size
                draw = self._draw(start, start + chunk * size)
            stop = min((number // together + 1) * together, len(self.batches))
            yield draw, slice(number * size - start, stop * size - start)
            number = stop

    @functools.cached_property
    def _together(self) -> int:
        """How many batches are made together: where nothing can fail but finding the files."""
        if (sample_bytes := self.source.columns.gathered_bytes) is None or self.finishing.normalise:
            return 1
        return max(1, _TOGETHER_BYTES // max(self.options.batch_size * sample_bytes, 1))

    def _draw(self, start: int, stop: int) -> _Draw:
        """This rank's samples number `start` to `stop`."""
        began = time.perf_counter()
        positions, padded = self.batches.positions(start, stop)
        indexes = self.indexes(positions)
        self.metrics.seconds["order"] += (ordered := time.perf_counter()) - began
        located = self.source.columns.locate(indexes)
        self.metrics.seconds["fetch"] += time.perf_counter() - ordered
        return _Draw(positions=positions, indexes=indexes, located=located, padded=padded)

    def _begin(self, draw: _Draw, rows: slice, held: HeldRanges | None, work: Inline | Pool) -> _Begun:
        """Have batches made: fetched now, decoded and normalised by `work`."""
        columns, seconds, began = self.source.columns, self.metrics.seconds, time.perf_counter()
        try:
            fetched = columns.fetch([located[rows] for located in draw.located], held)
        except (ShardwrightError, OSError) as error:
            return _Begun(draw=draw, rows=rows, batch={}, error=error)
        seconds["fetch"] += (begun := time.perf_counter()) - began
        finish = self.finishing.of(self.epoch, draw.positions[rows], draw.indexes[rows])
        batch, steps = columns.steps(fetched, finish, self.buffers)
        running = work.run(steps)
        seconds["decode_wait"] += time.perf_counter() - begun
        return _Begun(draw=draw, rows=rows, batch=batch, running=running)

    def _finish(self, made: _Begun) -> Iterator[MadeBatch]:
        """The batches, when they are decoded; with pad flags, and after the transform."""
        seconds, began = self.metrics.seconds, time.perf_counter()
        draw, rows, size = made.draw, made.rows, self.options.batch_size
        try:
            if made.error is not None:
                raise made.error
            assert made.running is not None
            if worked := made.running.finish():
                seconds["decode"] += worked
            batch = made.batch
        except DecodeError:
            batch = self._read_damaged(draw.positions[rows], draw.indexes[rows])
        if draw.padded is not None:
            padded = draw.padded[rows]
            batch[PAD] = padded | batch[PAD] if PAD in batch else padded
        samples = len(draw.positions[rows])
        seconds["decode_wait"] += time.perf_counter() - began
        if rows.stop - rows.start == size:
            yield self._handed_out(batch, samples)
            return
        for start in range(0, rows.stop - rows.start, size):
            part = {name: values[start : start + size] for name, values in batch.items()}
            yield self._handed_out(part, min(size, samples - start))

    def _handed_out(self, batch: Batch, samples: int) -> MadeBatch:
        """What the trainer gets."""
        nbytes = decoded_bytes = sum(map(_nbytes, batch.values()))
        if self.options.transform is not None:
            began = time.perf_counter()
            batch = transformed(self.options.transform, batch, samples)
            nbytes = sum(map(_nbytes, batch.values()))
            self.metrics.seconds["transform"] += time.perf_counter() - began
        return MadeBatch(batch=batch, samples=samples, decoded_bytes=decoded_bytes, nbytes=nbytes)

    def _read_damaged(self, positions: I64, indexes: I64) -> Batch:
        """The batch with substitutes for what can't be decoded, or the error that names it."""
        source = self.source
        indexes = indexes.copy()
        if self.options.on_error == "replace":
            for row, problem in damaged_rows(source, indexes).items():
                indexes[row] = self._substitute(int(positions[row]), problem)
        return read_samples(source, indexes, self.finishing.of(self.epoch, positions, indexes))

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
