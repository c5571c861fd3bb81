"""What the person who waits sees: one line per pass, and how far it is while it runs.

A bar on a terminal; elsewhere, in a log, a line every 10 s.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import SparkContext
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_POLL_SECONDS = 0.25
_REPORT_SECONDS = 10.0


class Passes:
    """Shows passes on standard error and keeps their durations, in seconds."""

    def __init__(self, context: SparkContext, *, quiet: bool = False) -> None:
        self._tracker = context.statusTracker()
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._terminal = _terminal_console(quiet)
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """One line for the person who waits."""
        self._console.print(text, markup=False)

    @contextmanager
    def show(self, name: str) -> Iterator[None]:
        """Show how many tasks of the pass `name` are done while its context is open."""
        began = time.monotonic()
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(name, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            self.seconds[name] = round(time.monotonic() - began, 3)

    def _watch(self, name: str, stop: threading.Event) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tasks"),
            TimeElapsedColumn(),
        )
        terminal = self._terminal is not None
        with Progress(*columns, console=self._terminal, transient=True, disable=not terminal) as progress:
            shown = progress.add_task(name, total=None)
            reported = time.monotonic()
            while not stop.wait(_POLL_SECONDS):
                done, total = self._tasks()
                progress.update(shown, completed=done, total=total or None)
                if not terminal and time.monotonic() - reported > _REPORT_SECONDS:
                    reported = time.monotonic()
                    self.say(f"{name}: {done} of {total} tasks")

    def _tasks(self) -> tuple[int, int]:
        stages = [self._tracker.getStageInfo(stage) for stage in self._tracker.getActiveStageIds()]
        running = [stage for stage in stages if stage]
        return sum(stage.numCompletedTasks for stage in running), sum(stage.numTasks for stage in running)


def _terminal_console(quiet: bool) -> Console | None:
    """The terminal to draw on. Under `spark-submit` the driver's own streams are pipes, so it is named by the environment."""
    if quiet:
        return None
    if sys.stderr.isatty():
        return Console(stderr=True)
    try:
        named = os.environ.get("SHARDWRIGHT_TERMINAL")
        return Console(file=open(named, "w"), force_terminal=True) if named else None
    except OSError:
        return None
