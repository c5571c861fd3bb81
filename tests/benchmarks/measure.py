"""One contender, started anew as a process of its own: how long it took, how much CPU time and memory it and its children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.process_tree import Peaks, Sampler, adopt_orphans, descendants
from tests.benchmarks.report import VARIABLE, now

_LIMIT_SECONDS = 1800.0
_END_SECONDS = 60.0
_TAIL_CHARACTERS = 4000


class ContenderError(Exception):
    """A contender failed; the end of what it printed."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one start of a contender cost. `seconds` run from start to exit, `marks` from the start; CPU is user and system."""

    seconds: float
    cpu_seconds: float
    peaks: Peaks
    marks: dict[str, float]
    found: dict[str, Any]

    @property
    def start_seconds(self) -> float:
        """Until its Spark session stood; 0 without one."""
        return self.marks.get("session", 0.0)

    @property
    def work_seconds(self) -> float:
        """From then on until the work was done."""
        return self.marks.get("done", self.seconds) - self.start_seconds


def measure(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, *, limit_seconds: float = _LIMIT_SECONDS
) -> Run:
    """Run `command` with `folder`, which exists, for its report and its output. Raises ContenderError."""
    adopt_orphans()
    report, output = folder / "report.json", folder / "output.txt"
    report.unlink(missing_ok=True)
    with Sampler() as sampler, open(output, "wb") as out:
        began = now()
        process = subprocess.Popen(
            command, env={**environment, VARIABLE: str(report)}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        try:
            with _ended_after(limit_seconds):
                _, status, usage = os.wait4(process.pid, 0)
            seconds = now() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            with _ended_after(_END_SECONDS):  # a JVM ends somewhat later than the Python that started it
                waited = usage.ru_utime + usage.ru_stime + _wait_for_orphans()
        finally:
            _kill_all()
    if process.returncode:
        tail = output.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:]
        raise ContenderError(f"exit code {process.returncode} after {seconds:.1f} s; it printed:\n{tail}")
    told = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {"marks": {}, "found": {}}
    marks = {name: time - began for name, time in told["marks"].items()}
    # Spark's Python workers are missing from what was waited for: their parent ignores SIGCHLD
    cpu = max(waited, sampler.cpu_seconds)
    return Run(seconds=seconds, cpu_seconds=cpu, peaks=sampler.peaks, marks=marks, found=told["found"])


def _wait_for_orphans() -> float:
    """CPU seconds of the descendants that outlived the contender's first process, once they have ended."""
    total = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return total
        total += usage.ru_utime + usage.ru_stime


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Kill every descendant if the context lasts longer than this."""
    timer = threading.Timer(seconds, _kill_all)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill_all() -> None:
    for pid in descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
