"""Waits until its standard input ends, then kills each process whose environment holds argv[1], and prints what it was.

Run by `python -I -S`, so it imports nothing of the project.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path


def marked(mark: bytes) -> dict[int, str]:
    """Processes that were started with `mark`, NAME=value, in their environment: pid to command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or it is another user's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


if __name__ == "__main__":
    sys.stdin.read()
    deadline = time.monotonic() + 20
    while (left := marked(sys.argv[1].encode())) and time.monotonic() < deadline:
        for pid, command in left.items():
            with contextlib.suppress(ProcessLookupError, BrokenPipeError):
                print(pid, command, flush=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
