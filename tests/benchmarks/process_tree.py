"""The processes below this one, and their memory, from Linux's /proc."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from typing import Self

_SECONDS = 0.2
_PR_SET_CHILD_SUBREAPER = 36
_WORKER = b"pyspark.daemon"
"""Spark forks its Python workers from a process with this on its command line, and they keep that line."""


@dataclass
class Peaks:
    """The largest values seen, in bytes. Resident memory counts a shared page once per process, and mapped files too."""

    resident: int = 0
    private: int = 0
    worker_resident: int = 0
    worker_private: int = 0


class Sampler(threading.Thread):
    """Looks at every descendant of this process five times a second until `stop`; a context that joins at its end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks = Peaks()
        self._cpu_seconds: dict[int, float] = {}
        self._stop_event = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        self.join()

    def run(self) -> None:
        """Sample until the context ends."""
        while not self._stop_event.wait(_SECONDS):
            self._sample()

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes seen, each as last seen: what a process does in its last 0.2 s is missed."""
        return sum(self._cpu_seconds.values())

    def _sample(self) -> None:
        resident = private = 0
        for pid in descendants(os.getpid()):
            self._cpu_seconds[pid] = max(self._cpu_seconds.get(pid, 0.0), _cpu_seconds(pid))
            memory = _memory(pid)
            resident += memory.get("VmRSS", 0)
            private += memory.get("RssAnon", 0)
            if _WORKER in _read(pid, "cmdline"):
                self.peaks.worker_resident = max(self.peaks.worker_resident, memory.get("VmHWM", 0))
                self.peaks.worker_private = max(self.peaks.worker_private, memory.get("RssAnon", 0))
        self.peaks.resident = max(self.peaks.resident, resident)
        self.peaks.private = max(self.peaks.private, private)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be waited for and their CPU time counted.

    Raises OSError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int) -> list[int]:
    """The process ids below `root`, without it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            # the command, in parentheses, may hold anything; the state and the parent follow its last ')'
            after = _read(int(name), "stat").rpartition(b")")[2].split()
            if len(after) > 1:
                children.setdefault(int(after[1]), []).append(int(name))
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


def tree_cpu_seconds(root: int) -> float:
    """User and system time of `root` and the processes below it that live now."""
    return sum(map(_cpu_seconds, [root, *descendants(root)]))


def _cpu_seconds(pid: int) -> float:
    after = _read(pid, "stat").rpartition(b")")[2].split()
    return sum(map(int, after[11:13])) / os.sysconf("SC_CLK_TCK") if len(after) > 12 else 0.0


def _memory(pid: int) -> dict[str, int]:
    lines = (line.split() for line in _read(pid, "status").decode(errors="replace").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3 and words[2] == "kB"}


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # it ended meanwhile
        return b""
