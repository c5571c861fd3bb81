"""Forking a process that reads from HDFS.

hdfs-native keeps connections to DataNodes for 3 s after a read, for the whole process and whatever the client. A child that was
forked meanwhile takes one that its parent's threads serve, and waits for ever; so a fork waits until they are too old to be
taken. (Python's subprocess does not fork in this sense, and DataLoader workers wait once, before the first.)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

_KEPT_SECONDS = 3.2
_LONGEST_READ_SECONDS = 60.0
"""A fork waits no longer than that for reads in other threads: one of a cluster that does not answer would hold it up."""


class _Gate:
    """Lets reads through unless a fork is about to happen."""

    def __init__(self) -> None:
        self.open_anew()

    def open_anew(self) -> None:
        """In a child: the lock may have been held by a thread that only the parent has."""
        self._changed = threading.Condition()
        self._reads = self._forks = 0
        self._last_read = -_KEPT_SECONDS

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._reads += 1
        try:
            yield
        finally:
            with self._changed:
                self._reads -= 1
                self._last_read = time.monotonic()
                self._changed.notify_all()

    def before_fork(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: not self._reads, _LONGEST_READ_SECONDS)
            rest = self._last_read + _KEPT_SECONDS - time.monotonic()
        if rest > 0:
            time.sleep(rest)

    def after_fork(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_gate = _Gate()
os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=_gate.open_anew)


def reading() -> AbstractContextManager[None]:
    """In this context bytes are read by hdfs-native: no fork happens meanwhile, nor soon after."""
    return _gate.reading()
