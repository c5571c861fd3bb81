"""B1 to B3: whole epochs of arrays, pictures and tables, every contender in turn, beside the limit of the same round."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.contenders import say
from tests.benchmarks.measure import ContenderError, Run
from tests.benchmarks.peers.contenders import LIMITS, SHARDWRIGHT, Peer, PeerSettings, start
from tests.benchmarks.peers.process import Job
from tests.benchmarks.peers.source import Kind, Source, write_source
from tests.benchmarks.table import ratios, spread, table

_HEAD = ("", "workers", "samples/s", "of the limit", "CPU, µs/sample", "private, MB", "first batch, s", "stored, MB")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the table."""

    peer: Peer
    workers: int = 0
    variant: str = ""

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.peer.name}, {self.variant}" if self.variant else self.peer.name

    @property
    def stored(self) -> str:
        """The folder that it reads."""
        return f"{self.peer.stored_by}-{self.variant}"

    def limit(self, limits: Sequence[Entry]) -> Entry:
        """What it is compared with: as many threads where they matter, and the same compression."""
        fits = [each for each in limits if each.variant == self.variant]
        return min(fits, key=lambda each: abs(each.workers - self.workers))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table: which samples, and how closely their content has to agree (decoders differ)."""

    kind: Kind
    title: str
    normalise: bool = False
    workers: tuple[int, ...] = (0, 2)
    variants: tuple[str, ...] = ("",)
    tolerance: float = 1e-9

    def entries(self, peers: Sequence[Peer]) -> list[Entry]:
        """The limits first."""
        content = self.kind.content
        limits = [Entry(peer=LIMITS, workers=workers, variant=variant)
                  for variant in self.variants for workers in (self.workers if content == "picture" else (0,))]  # fmt: skip
        ours = [
            Entry(peer=SHARDWRIGHT, workers=workers, variant=variant) for variant in self.variants for workers in self.workers
        ]
        others = [peer for peer in peers if peer.tables or content != "table"]
        theirs = [Entry(peer=peer, workers=workers)
                  for peer in others for workers in (self.workers if peer.workers else (0,))]  # fmt: skip
        return [*limits, *ours, *theirs]


def compare(comparison: Comparison, settings: PeerSettings) -> str:
    """The Markdown of one table."""
    folder = settings.work / comparison.kind.name
    kind = replace(comparison.kind, samples=settings.scaled(comparison.kind.samples, comparison.kind.batch))
    source = write_source(folder / "source", kind)
    entries = comparison.entries(settings.peers)
    say(f"{comparison.title}: {kind.samples:,} samples, {len(entries)} contenders")
    sizes = {entry: _stored(entry, source, settings.work) for entry in entries}
    runs: dict[Entry, dict[int, Run]] = {entry: {} for entry in entries}
    """By round."""
    failures: dict[Entry, list[str]] = {}
    for round_ in range(settings.rounds):
        shift = round_ * 5 % len(entries)
        for entry in entries[shift:] + entries[:shift]:
            try:
                runs[entry][round_] = _run(entry, comparison, source, settings)
            except ContenderError as error:
                if entry.peer in (LIMITS, SHARDWRIGHT):
                    raise
                failures.setdefault(entry, []).append(str(error))  # a peer's own fault: the others are still compared
        say(f"  round {round_ + 1}/{settings.rounds}")
    shutil.rmtree(folder)
    limits = [entry for entry in entries if entry.peer is LIMITS]
    reference = runs[limits[0]][0]
    problems = [
        f"* {entry.name}, {entry.workers} workers: {problem}"
        for entry in entries
        for problem in sorted(_problems(list(runs[entry].values()), reference, kind, comparison.tolerance))
    ]
    for entry, errors in failures.items():
        problems.append(f"* {entry.name}, {entry.workers} workers: failed in {len(errors)} of {settings.rounds} rounds")
        say(errors[0])
    for problem in problems:
        say(f"  {problem}")
    rows = [_row(entry, kind, runs[entry], runs[entry.limit(limits)], sizes[entry]) for entry in entries if runs[entry]]
    shown = table(_HEAD, rows)
    say(shown)
    return "\n".join([f"### {comparison.title}\n", shown, *problems, ""])


def _stored(entry: Entry, source: Source, work: Path) -> int:
    """The bytes of its store, which is made where it is not there yet."""
    store = source.folder.parent / entry.stored
    if not store.exists():
        by = SHARDWRIGHT if entry.peer.stored_by == SHARDWRIGHT.reader else entry.peer
        job = Job(verb="convert", reader=by.reader, source=str(source.folder), store=str(store), variant=entry.variant)
        start(by, job, work)
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def _run(entry: Entry, comparison: Comparison, source: Source, settings: PeerSettings) -> Run:
    job = Job(
        verb="epochs", reader=entry.peer.reader, source=str(source.folder), store=str(source.folder.parent / entry.stored),
        workers=entry.workers, normalise=comparison.normalise, variant=entry.variant, most_seconds=settings.seconds,
    )  # fmt: skip
    try:
        return start(entry.peer, job, settings.work)
    except ContenderError as error:
        raise ContenderError(f"{entry.name}, {entry.workers} workers: {error}") from error


def _problems(runs: Sequence[Run], limit: Run, kind: Kind, tolerance: float) -> set[str]:
    """What is wrong with the samples that a contender gave."""
    out = set()
    for run in runs:
        found = run.found
        if not found["samples"] == found["distinct"] == kind.samples:
            out.add(f"{found['samples']:,} samples, {found['distinct']:,} different ones, of {kind.samples:,}")
        elif not math.isclose(found["checksum"], limit.found["checksum"], rel_tol=tolerance):
            out.add(f"other content: {found['checksum']:.9g} where the limit has {limit.found['checksum']:.9g}")
    return out


def _row(entry: Entry, kind: Kind, by_round: dict[int, Run], limits: dict[int, Run], stored: int) -> Sequence[str]:
    runs = list(by_round.values())
    speeds = [kind.samples / statistics.median(run.found["seconds"]) for run in runs]
    most = [kind.samples / statistics.median(limits[round_].found["seconds"]) for round_ in by_round]
    return (
        entry.name,
        str(entry.workers),
        spread(speeds, 0),
        "" if entry.peer is LIMITS else ratios(speeds, most, 3),
        spread((run.found["cpu_seconds"] / kind.samples * 1e6 for run in runs), 1),
        spread((run.peaks.private / 1e6 for run in runs), 0),
        spread((run.found["first_batch_seconds"] for run in runs), 1),
        f"{stored / 1e6:,.0f}" if stored else "",
    )
