"""Small files: 100,000 of 1 kB prepared, next to Spark's own reading and writing of the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.contenders import OURS, Contender, Measured, Settings, binary_file, forget, fresh, ours, say, start
from tests.benchmarks.table import ratios, spread, table

_FILES = 100_000
_BYTES = 1024
_FOLDERS = 100
_WARM_UP_FILES = 200
_TEXT = """## Small files

{files:,} files of {bytes:,} random bytes in {folders} folders, in the page cache; `local[2]`, {repeats} starts of each, in
turn, after one on few files that is not counted. shardwright prepares them (`read.format = "files"`): found, read, keyed by
their paths, checked, staged, shuffled, and written as {shards} shards with sha256, statistics and lineage. Spark's `binaryFile`
gives path, modification time, length and content: once read and dropped by the `noop` writer, so that every byte is loaded,
and once written by `repartition({shards}).write.parquet`.

*whole*: from the start of the process to its exit. *work*: without the start of Spark.
"""


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    contenders = [ours(read_format="files"), binary_file(write=True), binary_file(write=False)]
    say("small files: warm-up, not counted")
    source = _write_files(settings.work / "warm-up", _WARM_UP_FILES)
    for number, contender in enumerate(contenders):
        measured, contenders[number] = start(contender, source, settings.work)
        forget(measured)
    count = settings.scaled(_FILES)
    source = _write_files(settings.work / "input", count)
    results: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
    for repeat in range(settings.repeats):
        for turn in range(len(contenders)):
            number = (turn + repeat) % len(contenders)  # so that none always comes after the same one
            result, contenders[number] = start(contenders[number], source, settings.work)
            _check(contenders[number], result, count)
            forget(result)
            results[contenders[number].name].append(result)
            say(f"  {repeat + 1}/{settings.repeats} {contenders[number].name}: work {result.run.work_seconds:.1f} s")
    shutil.rmtree(source)
    text = _TEXT.format(files=count, bytes=_BYTES, folders=_FOLDERS, repeats=settings.repeats, shards=8)
    return "\n".join([text, _costs(contenders, results), _where_time_goes(results[OURS])])


def _write_files(folder: Path, count: int) -> Path:
    fresh(folder)
    for number in range(count):
        own = folder / f"{number % _FOLDERS:03d}"
        own.mkdir(exist_ok=True)
        (own / f"{number:06d}.bin").write_bytes(os.urandom(_BYTES))
    return folder


def _check(contender: Contender, result: Measured, files: int) -> None:
    """A contender that loses files is not measured: it fails."""
    parts = [path for path in result.output.rglob("part-*.parquet") if "_quarantine" not in path.parts]
    found = sum(pq.ParquetFile(path).metadata.num_rows for path in parts)
    if parts and found != files:
        raise AssertionError(f"{contender.name}: expected {files} rows in its Parquet files, found {found}")


def _costs(contenders: Sequence[Contender], results: dict[str, list[Measured]]) -> str:
    head = ("", "whole, s", "work, s", "CPU, s", "memory, MB", f"{OURS}'s whole / this", f"{OURS}'s work / this")
    mine = [result.run for result in results[OURS]]
    rows = []
    for contender in contenders:
        runs = [result.run for result in results[contender.name]]
        rows.append(
            (
                contender.name,
                spread(run.seconds for run in runs),
                spread(run.work_seconds for run in runs),
                spread(run.cpu_seconds for run in runs),
                spread((run.peaks.resident / 1e6 for run in runs), 0),
                ratios([run.seconds for run in mine], [run.seconds for run in runs]),
                ratios([run.work_seconds for run in mine], [run.work_seconds for run in runs]),
            )
        )
    return table(head, rows)


def _where_time_goes(results: Sequence[Measured]) -> str:
    passes = [result.run.found["passes"] for result in results]
    named = {name: [each[name] for each in passes] for name in passes[0]}
    rest = [result.run.work_seconds - sum(each.values()) for result, each in zip(results, passes, strict=True)]
    rows = [(f"{OURS}, s", *(spread(seconds, 2) for seconds in [*named.values(), rest]))]
    return f"Where the time of {OURS} goes:\n\n{table(('', *named, 'finding, publishing'), rows)}"
