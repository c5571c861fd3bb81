"""How fast a dataset can be read here, and what the limit is: storage, decoding, the order, or a trainer of a given speed."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from shardwright.errors import ConfigError, DatasetNotFoundError
from shardwright.order import Shuffle, World
from shardwright.reader.dataset import Dataset
from shardwright.reader.loader import Loader
from shardwright.reader.metrics import LITTLE, Metrics
from shardwright.reader.threads import default_threads
from shardwright.transforms import RandomResizedCrop

Limit = Literal["trainer", "storage", "decode", "order"]
Progress = Callable[[str, int, int], None]
"""Called before each measurement: what is measured, how many are done, and how many there are."""
_NEAR = 0.95
"""Fewer threads that reach this part of the best speed are recommended instead."""
_NEAR_SHARE = 0.02
"""With a trainer: those that let it wait for no more than this share of the time longer."""
_STORAGE = 0.8
"""A loader that gets this part of what storage alone gives has storage for a limit, even if its threads wait in decoders."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured. Raises ConfigError with all that is wrong; `Dataset.loader` says what it takes itself."""

    batch_size: int = 64
    shuffle: Shuffle = "window"
    normalise: bool = False
    crop: int | None = None
    """Encoded pictures are read as `RandomResizedCrop` of so many pixels; None: whole."""
    threads: tuple[int, ...] = ()
    """Those to compare; none: 0, 1, 2, 4, 8 and what is the default here."""
    seconds: float = 3.0
    """Of each measurement."""
    step_seconds: float | None = None
    """What the trainer needs for a batch; None: no time at all."""

    def __post_init__(self) -> None:
        step = self.step_seconds
        expected = {
            f"threads: expected at least 0, found {min(self.threads, default=0)}": min(self.threads, default=0) >= 0,
            f"seconds: expected more than 0, found {self.seconds:g}": self.seconds > 0,
            f"step: expected more than 0 seconds, found {step}": step is None or step > 0,
        }
        if problems := [problem for problem, fine in expected.items() if not fine]:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was read in some time."""

    samples: int
    bytes: int
    seconds: float

    @property
    def samples_per_second(self) -> float:
        """The mean."""
        return self.samples / self.seconds

    @property
    def bytes_per_second(self) -> float:
        """The mean."""
        return self.bytes / self.seconds

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**dataclasses.asdict(self), "samples_per_second": self.samples_per_second}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A loader's speed with so many threads; bytes are those of the decoded values."""

    threads: int
    speed: Speed
    metrics: Metrics
    """Of the time that was measured alone."""

    def share(self, stage: str) -> float:
        """Seconds of a stage in a second; above 1 where several threads decode."""
        return self.metrics.seconds[stage] / self.speed.seconds

    def to_json(self) -> dict[str, Any]:
        """All of it but what a bench has no use for."""
        return {
            "threads": self.threads, **self.speed.to_json(),
            "shares": {name: self.share(name) for name in self.metrics.seconds}, "wait_share": self.metrics.wait_share,
            "queued_mean": self.metrics.queued_mean,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, on one rank alone: `first` and `again` read samples without decoding them, then loaders read them."""

    dataset: Dataset
    options: BenchOptions
    default_threads: int
    """What the loader takes unasked."""
    first: Speed
    """The first time: from storage, as far as the machine had not kept it in memory before. Bytes as stored."""
    again: Speed
    measured: tuple[Measured, ...]
    """By threads, ascending, after these samples were read."""

    @property
    def recommended(self) -> Measured:
        """The fewest threads that are about as fast as any."""
        if self.options.step_seconds is None:
            enough = _NEAR * max(one.speed.samples_per_second for one in self.measured)
            return next(one for one in self.measured if one.speed.samples_per_second >= enough)
        least = min(one.metrics.wait_share for one in self.measured)
        return next(one for one in self.measured if one.metrics.wait_share <= least + _NEAR_SHARE)

    @property
    def limit(self) -> Limit:
        """What decides the speed with the recommended threads, once the samples were read before."""
        best = self.recommended
        if self.options.step_seconds is not None and best.metrics.wait_share < LITTLE:
            return "trainer"
        stage = best.metrics.slowest
        if stage == "order":
            return "order"
        decodes = stage == "decode" and best.speed.samples_per_second < _STORAGE * self.again.samples_per_second
        return "decode" if decodes else "storage"

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        source = self.dataset.source
        return {
            "url": source.url, "version": source.version, "split": source.catalog.split, "samples": len(self.dataset),
            "columns": list(source.names), **dataclasses.asdict(self.options), "default_threads": self.default_threads,
            "storage": {"first": self.first.to_json(), "again": self.again.to_json()},
            "measured": [one.to_json() for one in self.measured], "limit": self.limit,
            "recommended_threads": self.recommended.threads,
        }  # fmt: skip


def bench(dataset: Dataset, options: BenchOptions, *, progress: Progress = lambda _what, _done, _of: None) -> Report:
    """Measure storage alone twice, then loaders with each number of threads: each `options.seconds` long, or for one batch.

    All read the same samples in the same order: those of the first epoch that storage gave the first time. Nothing is dropped
    from the machine's memory first, so only the first time can be cold.

    Raises DatasetNotFoundError for a dataset without samples, and what `Dataset.loader` and reading raise.
    """
    if not len(dataset):
        raise DatasetNotFoundError(f"{dataset!r}: there is nothing to read")
    loader = _loader(dataset, options, None)
    threads = tuple(sorted(set(options.threads))) or _some_threads(loader.threads)
    progress("storage, the first time", 0, total := len(threads) + 2)
    pieces, first = _storage(loader, loader.stored(), options.seconds)
    progress("storage, again", 1, total)
    _, again = _storage(loader, _over_and_over(loader, loader.stored, pieces), options.seconds)
    batches = -(-first.samples // options.batch_size)
    measured: list[Measured] = []
    for number in threads:
        progress(f"threads={number}", len(measured) + 2, total)
        measured.append(_measure(_loader(dataset, options, number), options, batches))
    return Report(
        dataset=dataset, options=dataclasses.replace(options, threads=threads), default_threads=loader.threads, first=first,
        again=again, measured=tuple(measured),
    )  # fmt: skip


def _loader(dataset: Dataset, options: BenchOptions, threads: int | None) -> Loader:
    pictures = [] if options.crop is None else [field.name for field in dataset.schema if field.is_image]
    if options.crop is not None and not pictures:
        raise ConfigError([f"crop: {dataset!r} has no encoded pictures; leave it out"])
    return dataset.loader(
        batch_size=options.batch_size, world=World(), shuffle=options.shuffle, normalise=options.normalise, threads=threads,
        decode={name: RandomResizedCrop(options.crop or 0) for name in pictures},
    )  # fmt: skip


def _some_threads(default: int) -> tuple[int, ...]:
    """Where a batch is no more than one gather, more than one has nothing to do; where it is little more, one costs more."""
    most = default_threads(1)
    return (0, 1) if default == 0 else tuple(sorted({number for number in (0, 1, 2, 4, 8, default, most) if number <= most}))


def _storage(loader: Loader, stored: Generator[list[Any]], seconds: float) -> tuple[int, Speed]:
    """In how many pieces samples were read in so many seconds, or all, and how fast; the time for the order is left out."""
    pieces = samples = nbytes = 0
    began, ordering = time.perf_counter(), loader.metrics().seconds["order"]
    with closing(stored):
        for values in stored:
            pieces, samples = pieces + 1, samples + len(values[0])
            nbytes += sum(map(_touch, values))
            if time.perf_counter() - began >= seconds:
                break
    spent = time.perf_counter() - began - (loader.metrics().seconds["order"] - ordering)
    return pieces, Speed(samples=samples, bytes=nbytes, seconds=spent)


def _touch(values: Any) -> int:
    """Read values that are only mapped; how many bytes they have."""
    return len(b"".join(values)) if isinstance(values, list) else values.nbytes


def _measure(loader: Loader, options: BenchOptions, batches: int) -> Measured:
    """The first batch is left out: before it threads start and decoders are loaded."""
    with closing(_over_and_over(loader, lambda: iter(loader), batches)) as taken:
        next(taken)
        before, began, spent = loader.metrics(), time.perf_counter(), 0.0
        while spent < options.seconds:
            if options.step_seconds is not None:
                time.sleep(options.step_seconds)
            next(taken)
            spent = time.perf_counter() - began
        metrics = loader.metrics().since(before)
    return Measured(
        threads=loader.threads, metrics=metrics, speed=Speed(samples=metrics.samples, bytes=metrics.bytes, seconds=spent)
    )


def _over_and_over(loader: Loader, begin: Callable[[], Iterator[Any]], count: int) -> Generator[Any]:
    """The first `count` of what `begin` gives, endlessly."""
    start = loader.state_dict()
    while True:
        loader.load_state_dict(start)
        yield from itertools.islice(begin(), count)
