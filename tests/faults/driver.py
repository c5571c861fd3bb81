"""Runs a job and kills itself with -9, with all processes that it started, at a named point.

    python -m tests.faults.driver JOB INPUT OUTPUT POINT

It has to be the leader of its own process group.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from shardwright.config import Config
from shardwright.spark import prepare
from shardwright.spark.export import export
from shardwright.spark.reshard import ReshardOptions, open_reshard, reshard
from shardwright.storage import LocalStorage
from tests.spark.mnist import config

POINTS = ("while samples are read", "after the reading pass", "after the fitting pass", "after the carrying pass",
          "while parts are written",
          "after the writing pass", "while files are moved", "before the publishing rename",
          "between the publishing rename and _LATEST")  # fmt: skip
EXPORT_POINTS = ("while files are exported", "before the output is there", "after the output is there")
NEVER = "never"
SHARDS = 7
_STEPS = (("reading", "read"), ("fitting", "fit"), ("carrying", "carry"), ("writing", "write"))


def second_version(source: Path | str, out: Path, shards: int = 7) -> Config:
    """The job that is killed: another number of shards, what is left over carried, and pictures standardised at write."""
    shard = {"count": shards, "remainder": "carry"}
    return config(source, out, shard=shard, standardise={"fields": ["image"], "at": "write"})


def die() -> None:
    os.killpg(0, signal.SIGKILL)


def die_when_there_are_files(output: Path, pattern: str, count: int) -> None:
    def watch() -> None:
        while len(list(output.glob(pattern))) < count:
            time.sleep(0.001)
        die()

    threading.Thread(target=watch, daemon=True).start()


def arm(point: str, output: Path) -> None:
    """Make the process die at `point`."""
    write, rename = LocalStorage.write, LocalStorage.rename
    moved = 0

    def killing_write(self: LocalStorage, name: str, data: bytes) -> None:
        write(self, name, data)
        if (point, name) in tuple((f"after the {step} pass", f"{file}.json") for step, file in _STEPS):
            die()

    def killing_rename(self: LocalStorage, old: str, new: str) -> None:
        nonlocal moved
        publishing, exporting = new.startswith("v0"), ".partial-" in old
        if (publishing and point == "before the publishing rename") or (exporting and point == "before the output is there"):
            die()
        rename(self, old, new)
        if exporting and point == "after the output is there":
            die()
        moved += old.startswith("parts/")
        if (publishing and point.startswith("between the publishing rename")) or (
            point == "while files are moved" and moved >= 3
        ):
            die()

    patched: Any = LocalStorage
    patched.write, patched.rename = killing_write, killing_rename
    if point == "while samples are read":
        die_when_there_are_files(output, "_staging/*/index/*.parquet", 2)
    if point == "while parts are written":
        die_when_there_are_files(output, "_staging/*/parts/*.parquet", 2)
    if point == "while files are exported":
        die_when_there_are_files(output.parent, f"{output.name}.partial-*/train/*", 2)


def do_prepare(source: str, out: str) -> None:
    prepare(second_version(source, Path(out)), new_version=True)


def do_reshard(source: str, out: str) -> None:
    reshard(open_reshard([source], ReshardOptions(shards=SHARDS)), out)


def do_export(source: str, out: str) -> None:
    export(source, out)


JOBS = {"prepare": do_prepare, "reshard": do_reshard, "export": do_export}

if __name__ == "__main__":
    job, source, out, point = sys.argv[1:]
    arm(point, Path(out))
    JOBS[job](source, out)
