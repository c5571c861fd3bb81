"""Prepare: arrays in, eight Parquet files out, by shardwright, stock Petastorm, plain Spark and `dd`."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.contenders import (
    OURS,
    Contender,
    Measured,
    Settings,
    dd,
    forget,
    ours,
    plain_spark,
    say,
    start,
    stock_petastorm,
)
from tests.benchmarks.idx import into_page_cache, write_idx
from tests.benchmarks.table import ratios, spread, table

_LOADS = ((16_000, (224, 224, 3)), (300_000, (28, 28)))
_WARM_UP_ROWS = 800
_PASSES = ("read", "place", "write")
_TEXT = """## Prepare

`N = 8` shards or files, `local[2]`. Input: random unsigned bytes and a label for each array, in two plain IDX files that lie in
the page cache. Every contender is a process of its own with its own Spark session, started in turn, {repeats} times each, after
one start on little data that is not counted. shardwright gives all its guarantees: keys, checks, an exactly balanced shuffle,
exact statistics, sha256, the atomic publish. {petastorm}`dd` copies the images alone, from memory to memory. No contender must
wait for the disk; "then sync" is how long it took afterwards.

*whole*: from the start of the process to its exit. *work*: without the start of Spark. CPU and memory are those of the process
and all its descendants, the JVM included; memory is the largest sum seen. It counts pages of mapped files, which the kernel
takes back when it needs them; *private* does not.
"""

_PETASTORM = (
    "Stock Petastorm encodes with NdarrayCodec, row groups of 32 MB, the rows in the order of the input\nunless it says so. "
)


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    contenders = _warmed_up(_contenders(settings), settings)
    text = _TEXT.format(repeats=settings.repeats, petastorm=_PETASTORM if settings.petastorm_python else "")
    return "\n".join([text, *(_load(settings, contenders, rows, shape) for rows, shape in _LOADS)])


def _contenders(settings: Settings) -> list[Contender]:
    petastorm = []
    if settings.petastorm_python:
        petastorm.append(stock_petastorm(settings.petastorm_python))
        if settings.petastorm_repartition:
            petastorm.append(stock_petastorm(settings.petastorm_python, repartition=True))
    return [ours(), *petastorm, plain_spark(), dd()]


def _warmed_up(contenders: Sequence[Contender], settings: Settings) -> list[Contender]:
    source = write_idx(settings.work / "warm-up", _WARM_UP_ROWS, (28, 28))
    say("warm-up, not counted")
    warm = []
    for contender in contenders:
        measured, after = start(contender, source, settings.work)
        _check(after, measured, _WARM_UP_ROWS)
        forget(measured)
        warm.append(after)
    shutil.rmtree(source)
    return warm


def _load(settings: Settings, contenders: Sequence[Contender], full_rows: int, shape: tuple[int, ...]) -> str:
    rows = settings.scaled(full_rows)
    size = rows * math.prod(shape)
    title = f"{rows:,} arrays of {'x'.join(map(str, shape))}, {size / 1e9:.2f} GB"
    say(f"prepare: {title}")
    source = write_idx(settings.work / "input", rows, shape)
    measured: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
    now = list(contenders)
    for repeat in range(settings.repeats):
        for turn in range(len(now)):
            number = (turn + repeat) % len(now)  # so that none always comes after the same one
            into_page_cache(source)
            result, now[number] = start(now[number], source, settings.work)
            _check(now[number], result, rows)
            forget(result)
            measured[now[number].name].append(result)
            say(f"  {repeat + 1}/{settings.repeats} {now[number].name}: {_line(result)}")
    shutil.rmtree(source)
    more_memory = [f"{c.name} needed driver memory {c.memory}, the others 2g.\n" for c in now if c.memory != "2g"]
    return "\n".join([f"### {title}\n", _costs(now, measured), *more_memory, _where_time_goes(measured[OURS])])


def _costs(contenders: Sequence[Contender], measured: dict[str, list[Measured]]) -> str:
    head = (
        "", "whole, s", "work, s", "CPU, s", "memory, MB", "private, MB", "then sync, s",
        f"whole / {OURS}", f"work / {OURS}",
    )  # fmt: skip
    mine = [result.run for result in measured[OURS]]
    rows = []
    for contender in contenders:
        results = measured[contender.name]
        runs = [result.run for result in results]
        rows.append(
            (
                contender.name,
                spread(run.seconds for run in runs),
                spread(run.work_seconds for run in runs),
                spread(run.cpu_seconds for run in runs),
                spread((run.peaks.resident / 1e6 for run in runs), 0),
                spread((run.peaks.private / 1e6 for run in runs), 0),
                spread(result.sync_seconds for result in results),
                ratios([run.seconds for run in runs], [run.seconds for run in mine]),
                ratios([run.work_seconds for run in runs], [run.work_seconds for run in mine]),
            )
        )
    note = (
        f"The last two columns: how many times as long as {OURS}, pair by pair of the same round; above 1, {OURS} is faster.\n"
    )
    return f"{table(head, rows)}\n{note}"


def _where_time_goes(results: Sequence[Measured]) -> str:
    """Of our whole time: Spark's start, each pass, and what lies between and after them."""
    runs = [result.run for result in results]
    passes = {name: [float(run.found["passes"].get(name, 0.0)) for run in runs] for name in _PASSES}
    rest = [run.work_seconds - sum(run.found["passes"].values()) for run in runs]
    ends = [run.seconds - run.start_seconds - run.work_seconds for run in runs]
    named = {"start": [run.start_seconds for run in runs], **passes, "plan, publish": rest, "Spark's end": ends}
    rows = [[f"{OURS}, s", *(spread(seconds, 2) for seconds in named.values())]]
    return f"Where the time of {OURS} goes:\n\n{table(('', *named), rows)}"


def _line(result: Measured) -> str:
    run = result.run
    return (
        f"{run.seconds:.1f} s, work {run.work_seconds:.1f} s, CPU {run.cpu_seconds:.1f} s, "
        f"{run.peaks.resident / 1e6:,.0f} MB, then sync {result.sync_seconds:.1f} s"
    )


def _check(contender: Contender, result: Measured, rows: int) -> None:
    """A contender that loses rows is not measured: it fails."""
    if not contender.spark:
        return
    found = sum(pq.ParquetFile(path).metadata.num_rows for path in _parts(result.output))
    if found != rows:
        raise AssertionError(f"{contender.name}: expected {rows} rows in its Parquet files, found {found}")


def _parts(output: Path) -> list[Path]:
    return [path for path in output.rglob("part-*.parquet") if "_quarantine" not in path.parts]
