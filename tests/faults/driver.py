"""Runs a prepare job and kills itself with -9, with all processes that it started, at a named point.

    python -m tests.faults.driver INPUT OUTPUT SHARDS POINT

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

from shardwright.spark import prepare
from shardwright.storage import LocalStorage
from tests.spark.mnist import config

POINTS = ("while samples are read", "after the reading pass", "while parts are written", "after the writing pass",
          "while files are moved", "before the publishing rename", "between the publishing rename and _LATEST")  # fmt: skip
NEVER = "never"


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
        if (point, name) in (("after the reading pass", "read.json"), ("after the writing pass", "write.json")):
            die()

    def killing_rename(self: LocalStorage, old: str, new: str) -> None:
        nonlocal moved
        publishing = new.startswith("v0")
        if publishing and point == "before the publishing rename":
            die()
        rename(self, old, new)
        moved += old.startswith("parts/")
        if (publishing and point.startswith("between the publishing rename")) or (
            point == "while files are moved" and moved == 3
        ):
            die()

    patched: Any = LocalStorage
    patched.write, patched.rename = killing_write, killing_rename
    if point == "while samples are read":
        die_when_there_are_files(output, "_staging/*/index/*.parquet", 2)
    if point == "while parts are written":
        die_when_there_are_files(output, "_staging/*/parts/*.parquet", 2)


if __name__ == "__main__":
    source, out, shards, point = sys.argv[1:]
    arm(point, Path(out))
    prepare(config(source, Path(out), shard={"count": int(shards)}), new_version=True)
