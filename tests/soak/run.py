"""A soak: one process reads for 20 minutes; every epoch has to be right, and its memory must not grow. Needs Linux, for /proc.

./tests/run --soak
./tests/run --soak -- --minutes 2                   a try: written to build/soak.md
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import shardwright
from shardwright.schema import Field, Schema
from tests.benchmarks.contenders import ROOT, fresh, here, say
from tests.benchmarks.growth import FEW_ARENAS, Held, Slope, slope
from tests.benchmarks.machine import machine, today
from tests.benchmarks.measure import measure
from tests.benchmarks.peers.source import Kind, write_source
from tests.benchmarks.table import table
from tests.benchmarks.workplace import workplace
from tests.datasets import publish
from tests.soak.reading import MEMORY_LIMIT_BYTES, REQUEST_SECONDS, SAMPLE_SECONDS

MINUTES = 20.0
BOUND = 12.0
"""MB per hour: less than 300 MB in a day."""
WARM = 0.2
"""The share of the time that is left out of the slope: what is imported, opened and kept once, and the allocators' arenas."""
LINES = 20
_SAMPLES = 1024
_SPARE_SECONDS = 300.0
_TEXT = """# Soak

One process reads for {minutes:g} minutes, with three readers whose batches it takes in turn: pictures (JPEG, 128x128x3),
arrays (32x32x3) and a table with compressed columns, {samples:,} samples each in 8 shards; local ones, and the same files
behind a file system that takes {request:g} ms a request, with a limit of {limit} MiB; 0 to 2 threads, normalised, transformed,
selected by `where`. Every epoch is read by 1 to 3 ranks, most of them in pieces: other ranks go on, in another batch size, from
the state that was saved. Loaders are made anew for each piece, datasets opened anew after three epochs. Each epoch is checked:
every sample once, but for those that its last ranks have to leave out.

* Date: {date}
* Command: `./tests/run --soak -- --minutes {minutes:g}`
* shardwright {version}, Python {python}
* Machine: {machine}
* Read: {epochs:,} epochs, gone on with from a state {resumed:,} times, {read:,} samples in {batches:,} batches; all right

Noted after every round, when all loaders have been left and their threads have ended; a line is the median of its time.
*private* is what the process can't give back, after `malloc_trim`; *kept*: what that gave back. `MALLOC_ARENA_MAX=2`: with its
defaults glibc keeps some hundred MB of freed memory, more and more until all its arenas are full. *resident* also counts pages
of mapped files. *at work*: the most private memory, and the most threads, in that time, of what was noted every {every:g} s.

{table}
Slope of private memory, by least squares without the first {warm:.0%} of the time: {slope} MB per hour.

**{verdict}** The bound: the slope is not above {bound:g} MB per hour by more than two standard errors, and in the last half of
the time there are at no rest more descriptors, or threads, than there were in the first half.
"""


class Rest(NamedTuple):
    """What was held after a round: `kept` is the private memory before `malloc_trim`."""

    epochs: int
    kept: int
    held: Held


def main() -> None:
    args = _arguments()
    with workplace(args.work, 10**9) as work:
        say("writing the datasets")
        write_datasets(work / "datasets")
        say(f"reading for {args.minutes:g} minutes")
        command = [sys.executable, "-m", "tests.soak.reading", str(work / "datasets"), str(60 * args.minutes)]
        found = measure(
            command, here() | FEW_ARENAS, fresh(work / "run"), limit_seconds=60 * args.minutes + _SPARE_SECONDS
        ).found
    output = args.output or ROOT / ("docs" if args.minutes >= MINUTES else "build") / "soak.md"
    passed, text = document(found, args.minutes)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(text)
    say(f"written: {output}")
    if not passed:
        sys.exit("the soak failed: see its verdict")


def document(found: dict[str, Any], minutes: float) -> tuple[bool, str]:
    """Whether it passed, and the Markdown."""
    rest = [Rest(epochs, kept, Held(*noted)) for epochs, kept, noted in found["rest"]]
    warm = [each.held for each in rest[int(WARM * len(rest)) :]]
    grown = slope([each.seconds / 3600 for each in warm], [each.private / 1e6 for each in warm])
    problems = _problems([each.held for each in rest], grown)
    counts = found["counts"]
    return not problems, _TEXT.format(
        minutes=minutes, samples=_SAMPLES, request=1000 * REQUEST_SECONDS, limit=MEMORY_LIMIT_BYTES >> 20, date=today(),
        version=shardwright.__version__, python=platform.python_version(), machine=machine(), epochs=counts["epochs"],
        resumed=counts["resumed"], read=counts["samples"], batches=counts["batches"], every=SAMPLE_SECONDS,
        table=_table(rest, [Held(*each) for each in found["held"]]), warm=WARM, slope=f"{grown.value:+.1f} ± {grown.error:.1f}",
        bound=BOUND, verdict=f"Failed: {'; '.join(problems)}." if problems else "Passed.",
    )  # fmt: skip


def _problems(rest: Sequence[Held], grown: Slope) -> list[str]:
    half = len(rest) // 2
    out = [] if grown.below(BOUND) else [f"private memory grows by {grown.value:.1f} ± {grown.error:.1f} MB per hour"]
    for name in ("descriptors", "threads"):
        before, last = (max(getattr(each, name) for each in some) for some in (rest[:half], rest[half:]))
        out += [f"{last} {name}, {before} before"] if last > before else []
    return out


def _table(rest: Sequence[Rest], work: Sequence[Held]) -> str:
    """A line for each twentieth of the time: of twenty minutes, one a minute."""
    head = (
        "minute", "epochs", "private, MB", "kept, MB", "resident, MB", "descriptors", "threads", "maps", "at work: private, MB",
        "threads",
    )  # fmt: skip
    begin, end = work[0].seconds - SAMPLE_SECONDS, rest[-1].held.seconds
    rows = []
    for number in range(LINES):
        since, until = (begin + (end - begin) * part / LINES for part in (number, number + 1))
        some = [each for each in rest if since < each.held.seconds <= until]
        busy = [each for each in work if since < each.seconds <= until]
        if some and busy:
            middle = {name: statistics.median(getattr(each.held, name) for each in some) for name in Held._fields}
            rows.append(
                (
                    f"{(until - begin) / 60:.1f}",
                    f"{some[-1].epochs:,}",
                    f"{middle['private'] / 1e6:,.1f}",
                    f"{statistics.median(each.kept - each.held.private for each in some) / 1e6:,.1f}",
                    f"{middle['resident'] / 1e6:,.1f}",
                    *(f"{middle[name]:,.0f}" for name in ("descriptors", "threads", "maps")),
                    f"{max(each.private for each in busy) / 1e6:,.0f}",
                    f"{max(each.threads for each in busy)}",
                )
            )
    return table(head, rows)


def write_datasets(folder: Path) -> None:
    """What `reading` names."""
    source = write_source(folder.parent / "source", Kind(name="soak", content="picture", samples=_SAMPLES, shape=(128, 128, 3)))
    random, label = np.random.default_rng(0), Field(name="label", dtype="int64")
    labels = {"label": source.labels}
    sizes: dict[str, Any] = {"shards": 8, "part_samples": 64, "row_group_samples": 32, "block_samples": 16, "window_blocks": 4}
    picture = Field(name="value", dtype="uint8", shape=(128, 128, 3), codec="image")
    array = Field(name="value", dtype="uint8", shape=(32, 32, 3))
    columns = {f"f{column:02}": random.standard_normal(_SAMPLES, np.float32) for column in range(12)}
    text = {"text": [f"sample {row}" for row in range(_SAMPLES)]}
    numbers = [Field(name=name, dtype="float32") for name in columns]
    publish(
        folder / "pictures", {"train": {"value": source.pictures()} | labels}, Schema(fields=(picture, label)),
        standardise=["value"], **sizes,
    )  # fmt: skip
    publish(
        folder / "arrays", {"train": {"value": random.integers(0, 256, (_SAMPLES, 32, 32, 3), np.uint8)} | labels},
        Schema(fields=(array, label)), **sizes,
    )  # fmt: skip
    publish(
        folder / "table", {"train": columns | text | labels},
        Schema(fields=(*numbers, Field(name="text", dtype="string"), label)), compressed=list(columns), **sizes,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long it reads (20)")
    parser.add_argument("--work", type=Path, help="where the datasets lie meanwhile (the system's temporary folder)")
    parser.add_argument("--output", type=Path, help="the document (docs/soak.md; build/soak.md for less than 20 minutes)")
    args = parser.parse_args()
    if args.minutes < 0.5:
        parser.error("expected --minutes of at least 0.5")
    return args


if __name__ == "__main__":
    main()
