"""What a loader counts, and where its time goes: whether the trainer waits for data, and on which stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shardwright.reader.cache import CacheCounts
from shardwright.reader.threads import Queued
from shardwright.storage.readahead import Traffic

Stage = Literal["order", "fetch", "decode", "transform"]
Limit = Stage | Literal["trainer"]
LITTLE = 0.05
"""A trainer that waits for less than this share of the time would hardly be faster with faster data."""
_MAKING: dict[str, Stage] = {"order": "order", "fetch": "fetch", "decode_wait": "decode", "transform": "transform"}
"""What the thread that makes batches spends its time on, and the stage that it is."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a loader has done so far, on this rank. Made by `Loader.metrics`."""

    batches: int
    """Handed out."""
    samples: int
    bytes: int
    """Of the decoded values."""
    dropped: int
    """Samples that no rank took at the end of an epoch."""
    replaced: int
    """Samples that could not be decoded, and had another one in their place."""
    replaced_first: tuple[str, ...]
    """The first few of them: where, and why."""
    requests: int
    """Ranges of remote parts that were fetched: of the epoch's values, not of footers and side files."""
    fetched_bytes: int
    """What they held, gaps and what was not needed included."""
    held_bytes: int
    """The most bytes of them that were on their way, or in memory, at a time."""
    cache_hits: int
    """Row groups of compressed columns that were in memory when a batch needed them; those of other loaders that read the same
    local Dataset meanwhile count too."""
    cache_misses: int
    """Those that had to be read and decompressed."""
    queued: int
    """Batches that are made and wait for the trainer now; always 0 with threads=0."""
    queued_mean: float
    """Those that waited when the trainer asked for one, on average. Near 0: the trainer waits for batches."""
    seconds: Mapping[str, float]
    """Where the time went.

    Of the thread that makes batches, the caller's with threads=0: ``order``; ``fetch``; ``decode_wait``, until the values were
    decoded; ``transform``; ``room``, until one of the batches that wait was taken. Of the threads that decode, together:
    ``decode``, processor time. Of the trainer: ``wait``, until a batch was there; ``step``, from one that it got to the next
    that it asked for.
    """

    @property
    def wait_share(self) -> float:
        """Which part of the time, 0 to 1, the trainer waited for data; the step that it is in now is not counted yet."""
        wall = self.seconds["wait"] + self.seconds["step"]
        return self.seconds["wait"] / wall if wall else 0.0

    @property
    def limit(self) -> Limit | None:
        """What would make this rank faster if it were faster: the trainer, where it waits less than 5 % of the time, or else
        the stage that making batches spends most time on. None before the first batch.
        """
        if not self.batches:
            return None
        return "trainer" if self.wait_share < LITTLE else self.slowest

    @property
    def slowest(self) -> Stage:
        """The stage that making batches spends most time on, whether the trainer waits or not."""
        return _MAKING[max(_MAKING, key=lambda name: self.seconds[name])]

    def since(self, earlier: Metrics) -> Metrics:
        """What was done after `earlier` was asked for; `held_bytes`, `queued` and `queued_mean` stay as they are."""
        counted = (
            "batches",
            "samples",
            "bytes",
            "dropped",
            "replaced",
            "requests",
            "fetched_bytes",
            "cache_hits",
            "cache_misses",
        )
        changed = {name: getattr(self, name) - getattr(earlier, name) for name in counted}
        seconds = {name: spent - earlier.seconds[name] for name, spent in self.seconds.items()}
        first = self.replaced_first[len(earlier.replaced_first) :]
        return dataclasses.replace(self, **changed, replaced_first=first, seconds=seconds)

    def to_json(self) -> dict[str, Any]:
        """All of it, with `wait_share` and `limit`, as what JSON can hold."""
        counted = dataclasses.asdict(self) | {"replaced_first": list(self.replaced_first)}
        return {**counted, "wait_share": self.wait_share, "limit": self.limit}


@dataclass(kw_only=True)
class Meter:
    """What is counted while a loader works. The trainer's thread and the one that makes batches write to it, each its own."""

    batches: int = 0
    samples: int = 0
    bytes: int = 0
    dropped: int = 0
    replaced: int = 0
    replaced_first: tuple[str, ...] = ()
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("order", "fetch", "decode_wait", "transform", "decode", "wait", "step"), 0.0)
    )
    traffic: Traffic = field(default_factory=Traffic)
    queued: Queued = field(default_factory=Queued)
    caches: list[tuple[CacheCounts, CacheCounts]] = field(default_factory=list)
    """The counts of each cache that was used, and what they were when it was first used here."""

    def handed_out(self, samples: int, nbytes: int, *, waited: float) -> None:
        """A batch, after so many seconds."""
        self.batches += 1
        self.samples += samples
        self.bytes += nbytes
        self.seconds["wait"] += waited

    def follow(self, counts: CacheCounts) -> None:
        """Count what is counted there from now on."""
        if all(known is not counts for known, _ in self.caches):
            self.caches.append((counts, dataclasses.replace(counts)))

    def read(self) -> Metrics:
        """All that was counted until now."""
        queued, traffic = self.queued, self.traffic
        return Metrics(
            batches=self.batches, samples=self.samples, bytes=self.bytes, dropped=self.dropped, replaced=self.replaced,
            replaced_first=self.replaced_first, requests=traffic.requests, fetched_bytes=traffic.bytes,
            held_bytes=traffic.held_bytes, cache_hits=sum(now.hits - then.hits for now, then in self.caches),
            cache_misses=sum(now.misses - then.misses for now, then in self.caches), queued=queued.now,
            queued_mean=queued.found / queued.asked if queued.asked else 0.0,
            seconds={**self.seconds, "room": queued.full_seconds},
        )  # fmt: skip
