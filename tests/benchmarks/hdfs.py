"""HDFS: whole epochs from a dataset on a real HDFS, beside the local disk, WebHDFS, and bare reading of the files."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.contenders import Settings, fresh, here, keep, ours, say, start
from tests.benchmarks.hadoop import running_hdfs
from tests.benchmarks.hdfs_reading import BARE, SHUFFLES
from tests.benchmarks.idx import write_idx
from tests.benchmarks.measure import ContenderError
from tests.benchmarks.report import VARIABLE
from tests.benchmarks.table import ratios, spread, table
from tests.cluster.datasets import put
from tests.cluster.hdfs import Hdfs

_SHAPES = {(64, 64, 3): 20_000, (224, 224, 3): 1_600}
_BATCH = 64
_SHARDS = 4
_WARM = 3
_LIMIT_SECONDS = 600
_LEFT_OUT = {("WebHDFS", "global")}
"""A request for each value, 50 ms each: minutes an epoch."""
_Speeds = list[float]
_CACHES = Path("/proc/sys/vm/drop_caches")
_TEXT = """## Reader on HDFS

HDFS of one NameNode and three DataNodes, replication 2, on this machine: what crosses a network elsewhere crosses the loopback
here, and daemons and reader share its cores. Arrays prepared by shardwright in {shards} shards, copied there; one rank,
batches of {batch}, default memory limit. *cold*: the first epoch of a new process, `open_dataset` and the client's start
included, {caches}. *warm*: {warm} more epochs of that process. MB/s are those of the values handed out; bare reading counts the
bytes of the part files, each read from its begin to its end: by hdfs-native 8 MiB at a time, one request after the other; by
WebHDFS in one stream. {repeats} processes each, in turn. Ratios are those of warm epochs of the same turn: above 1, the row is
faster.
"""
_DROPPED = "after the kernel dropped its page cache"
_KEPT = "with all files in the page cache, which only the superuser can have dropped"


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    prepared = [_prepare(settings, shape, rows) for shape, rows in _SHAPES.items()]
    # only now: measuring a process ends with the end of all that descends from this one
    with running_hdfs(fresh(settings.work / "hdfs")) as cluster:
        tables = [_compare(settings, cluster, title, rows, dataset) for title, rows, dataset in prepared]
    text = _TEXT.format(
        shards=_SHARDS, batch=_BATCH, warm=_WARM, repeats=settings.repeats, caches=_DROPPED if _drop_caches() else _KEPT
    )
    return "\n".join([text, *tables])


def _prepare(settings: Settings, shape: tuple[int, ...], rows: int) -> tuple[str, int, Path]:
    rows = settings.scaled(rows, at_least=_BATCH * _SHARDS)
    side = "x".join(map(str, shape))
    say(f"hdfs: {rows:,} arrays of {side}")
    source = write_idx(settings.work / f"input-{side}", rows, shape)
    measured, _ = start(ours(_SHARDS), source, settings.work)
    return f"{rows:,} arrays of {side}", rows, keep(measured, settings.work / side)


def _compare(settings: Settings, cluster: Hdfs, title: str, rows: int, dataset: Path) -> str:
    there = cluster.new_folder("benchmark")
    put(dataset, there)
    places = {"local": str(dataset), "HDFS": there, "WebHDFS": there.replace(cluster.url, cluster.webhdfs)}
    ways = [(name, BARE) for name in ("HDFS", "WebHDFS")]
    ways += [(name, shuffle) for shuffle in SHUFFLES for name in places if (name, shuffle) not in _LEFT_OUT]
    found: dict[tuple[str, str], list[_Speeds]] = {way: [] for way in ways}
    for repeat in range(settings.repeats):
        for name, what in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
            _drop_caches()
            speeds = _epochs(places[name], what, settings.work)
            found[name, what].append(speeds)
            say(f"  {repeat + 1}/{settings.repeats} {name}, {what}: {speeds[0]:,.0f} MB/s, then {speeds[-1]:,.0f}")
    nbytes = rows * (math.prod(map(int, dataset.name.split("x"))) + 8) / 1e6
    lines = []
    for (name, what), runs in found.items():
        warm, bare = _warm(runs), _warm(found["HDFS", BARE])
        speeds_only = (spread((speed[0] for speed in runs), 0), spread(warm, 0))
        if what == BARE:
            lines.append((f"{name}, bare", *speeds_only, "", ratios(warm, bare), ""))
        else:
            samples = spread((rows / nbytes * speed for speed in warm), 0)
            local = ratios(warm, _warm(found["local", what]))
            lines.append((f'{name}, `shuffle="{what}"`', *speeds_only, samples, ratios(warm, bare), local))
    head = ("", "cold, MB/s", "warm, MB/s", "warm, samples/s", "of bare HDFS", "of local")
    return f"### {title}\n\n{table(head, lines)}"


def _epochs(url: str, what: str, work: Path) -> _Speeds:
    """MB/s of each epoch of a new process."""
    path = work / "epochs.json"
    command = [sys.executable, "-m", "tests.benchmarks.hdfs_reading", url, what, str(_BATCH), str(_WARM + 1)]
    done = subprocess.run(
        command, env=here() | {VARIABLE: str(path)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=_LIMIT_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise ContenderError(f"{what} from {url}: exit code {done.returncode}; it printed:\n{done.stdout[-4000:]}")
    found = json.loads(path.read_text(encoding="utf-8"))["found"]
    return [nbytes / seconds / 1e6 for nbytes, seconds in zip(found["bytes"], found["seconds"], strict=True)]


def _warm(runs: list[_Speeds]) -> list[float]:
    return [speed for one in runs for speed in one[1:]]


def _drop_caches() -> bool:
    """Have the kernel forget the pages of files; False where that is not allowed."""
    os.sync()
    try:
        _CACHES.write_text("1")
    except OSError:
        return False
    return True
