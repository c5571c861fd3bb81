"""Where the benchmarks put what they read and write, and what they need to be run at all."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def workplace(parent: Path | None, needed_bytes: float) -> Iterator[Path]:
    """An empty folder, removed at the end. Exits where the system or its free space don't fit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what runs and what lies there goes too
    if not sys.platform.startswith("linux"):
        sys.exit("the benchmarks count CPU time and memory of whole process trees by Linux's /proc: run them on Linux")
    with tempfile.TemporaryDirectory(prefix="shardwright-benchmarks-", dir=parent) as temporary:
        work = Path(temporary)
        free = shutil.disk_usage(work).free
        if free < needed_bytes:
            sys.exit(
                f"expected {needed_bytes / 1e9:.0f} GB of free space in {work}, found {free / 1e9:.0f}; name another folder by "
                "--work"
            )
        yield work
