"""YARN and HDFS: prepare of 2 GB there, beside the same on this machine alone, and where the time goes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardwright.format.versions import read_manifest
from shardwright.storage import open_storage, open_writable
from tests.benchmarks.contenders import Settings, fresh, say
from tests.benchmarks.hadoop import running_hdfs
from tests.benchmarks.idx import into_page_cache, write_idx
from tests.benchmarks.measure import ContenderError
from tests.benchmarks.table import ratios, spread, table
from tests.cluster.hdfs import Hdfs
from tests.cluster.submitted import Job, on_yarn
from tests.cluster.yarn import Yarn

_SHAPE = (224, 224, 3)
_ROWS = 13_600
_WARM_UP_ROWS = 160
_SHARDS = 8
_PASSES = ("read", "place", "write")
_LOCAL = "`local[2]`, file://"
_CONFIG = """
name = "benchmark"
[read]
format = "idx"
path = "{path}"
[standardise]
fields = ["image"]
[shard]
count = {shards}
"""
_TEXT = """## Prepare on YARN and HDFS

{rows:,} arrays of {shape}, {size:.2f} GB, in plain IDX files, to {shards} shards, by `./spark-submit.sh jobs/prepare.py`: on a
local disk by `local[2]`; on HDFS by `local[2]`; on HDFS by YARN in client mode with two executors of one core. NameNode, three
DataNodes (replication 2), ResourceManager and NodeManager run on the same machine, with the same two cores: what a network and
more disks would change is not seen here, what the way through HDFS and YARN costs is. {repeats} starts each, in turn, after one
on little data, which also uploads the environment. All make the same content, by its `content_id`.

*whole*: from the start of the command to its exit. The passes are those of the manifest; *rest* is what lies around them: the
starts of Python, Java, Spark and containers, planning, publishing. On a local disk samples are read a second time from the
input where they lie; on HDFS they are staged, go through Spark's shuffle, and every file is written to two DataNodes.
"""


@dataclass(frozen=True)
class _Start:
    """One start of the command. Seconds."""

    whole: float
    passes: dict[str, float]
    content_id: str

    @property
    def rest(self) -> float:
        return self.whole - sum(self.passes.values())


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    rows = settings.scaled(_ROWS)
    with running_hdfs(fresh(settings.work / "cluster"), {"dfs.blocksize": 128 * 2**20}) as hdfs:
        yarn = Yarn(hdfs)
        yarn.start()
        try:
            return _compare(settings, hdfs, rows)
        finally:
            yarn.stop()


def _compare(settings: Settings, hdfs: Hdfs, rows: int) -> str:
    local = write_idx(settings.work / "input", rows, _SHAPE)
    began = time.monotonic()
    there = _copy(local, hdfs)
    bare = time.monotonic() - began
    ways = {
        _LOCAL: (["--master", "local[2]"], str(local), str(settings.work / "output")),
        "`local[2]`, HDFS": (["--master", "local[2]"], there, hdfs.new_folder("local")),
        "YARN, HDFS": (on_yarn(), there, hdfs.new_folder("yarn")),
    }
    say("yarn: warm-up, not counted")
    few = _copy(write_idx(settings.work / "few", _WARM_UP_ROWS, (28, 28)), hdfs)
    for options, _, _ in ways.values():
        _start(settings, options, few, hdfs.new_folder("few"))
    found: dict[str, list[_Start]] = {name: [] for name in ways}
    for repeat in range(settings.repeats):
        for name in [*ways][repeat % 3 :] + [*ways][: repeat % 3]:
            options, source, output = ways[name]
            into_page_cache(local)
            found[name].append(_start(settings, options, source, output))
            say(f"  {repeat + 1}/{settings.repeats} {name}: {found[name][-1].whole:.1f} s")
    made = {start.content_id for starts in found.values() for start in starts}
    if len(made) != 1:
        raise AssertionError(f"expected the same content everywhere, found {made}")
    size = rows * 224 * 224 * 3 / 1e9
    text = _TEXT.format(
        rows=rows, shape="x".join(map(str, _SHAPE)), size=size, shards=_SHARDS, repeats=settings.repeats
    )  # fmt: skip
    return "\n".join([text, _table(found), f"Bare write of the same bytes: {bare:.1f} s, {size * 1e3 / bare:.0f} MB/s.\n"])


def _copy(folder: Path, hdfs: Hdfs) -> str:
    storage = open_writable(hdfs.new_folder(folder.name))
    storage.make_directory()
    for path in sorted(folder.iterdir()):
        with storage.new_file(path.name) as scratch:
            scratch.symlink_to(path)
    return storage.url


def _start(settings: Settings, options: Sequence[str], source: str, output: str) -> _Start:
    config = settings.work / "benchmark.toml"
    config.write_text(_CONFIG.format(path=source, shards=_SHARDS), encoding="utf-8")
    began = time.monotonic()
    job = Job(settings.work / "job.log", [*options, "jobs/prepare.py", config, "--output", output])
    code = job.wait(1800)
    whole = time.monotonic() - began
    if code:
        raise ContenderError(f"exit code {code}; it printed:\n{job.text[-4000:]}")
    manifest = read_manifest(open_storage(output))[1]
    if output.startswith("hdfs://"):
        open_writable(output).delete()
    else:
        shutil.rmtree(output)
    passes = {name: float(manifest.provenance.seconds.get(name, 0.0)) for name in _PASSES}
    return _Start(whole, passes, manifest.content_id)


def _table(found: dict[str, list[_Start]]) -> str:
    lines = []
    for name, starts in found.items():
        whole = [start.whole for start in starts]
        lines.append(
            (
                name,
                spread(whole),
                *(spread(start.passes[step] for start in starts) for step in _PASSES),
                spread(start.rest for start in starts),
                ratios(whole, [start.whole for start in found[_LOCAL]]),
            )
        )
    return table(("", "whole, s", *(f"{step}, s" for step in _PASSES), "rest, s", f"whole / {_LOCAL}"), lines)
