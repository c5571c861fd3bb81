"""Threads of a loader: one that makes batches ahead of the trainer, in order, and some that decode for it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

T = TypeVar("T")
Step = Callable[[], None]
"""A piece of work on a batch; those of one batch may run in any order, in any threads."""
_MOST = 8
"""More threads than this are not taken unasked: beyond, decoders wait for memory, and a node has other ranks."""
_WAKE_SECONDS = 0.2
"""How often a thread that waits for room looks whether anybody is still there to make some."""


def default_threads(ranks: int) -> int:
    """The share of a rank, of `ranks` on this node, of the processors that this process may use: 1 to 8."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST, usable // ranks))


class Running(Protocol):
    """Work that was begun."""

    def finish(self) -> None:
        """Wait until it is done. Raises what the first step raised that failed."""


class Inline:
    """Does all work at once, in the thread that asks for it."""

    batches = 1
    """How many batches are worked on at a time."""

    def run(self, steps: Sequence[Step]) -> Running:
        """Do it."""
        return _Done(steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """There is nothing to end."""


class Pool:
    """Does work in threads of its own."""

    batches = 2
    """How many are worked on at a time: so no thread waits for the last picture of one."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="shardwright-decode")

    def run(self, steps: Sequence[Step]) -> Running:
        """Begin it."""
        return _Submitted([self._executor.submit(step) for step in steps])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Done:
    def __init__(self, steps: Sequence[Step]) -> None:
        self._error: Exception | None = None
        try:
            for step in steps:
                step()
        except Exception as error:  # noqa: BLE001 - raised by `finish`, as that of a thread is
            self._error = error

    def finish(self) -> None:
        if self._error is not None:
            raise self._error


class _Submitted:
    def __init__(self, futures: Sequence[Future[None]]) -> None:
        self._futures = futures

    def finish(self) -> None:
        failed = [error for future in self._futures if (error := future.exception()) is not None]
        if failed:
            raise failed[0]


class Made(Protocol):
    """Something that is made ahead."""

    @property
    def nbytes(self) -> int:
        """Of memory that it takes."""


M = TypeVar("M", bound=Made)


class Ahead(Generic[M]):
    """What `make(n)` yields, from item n on, made by a thread ahead of who takes it: the same items in the same order.

    At most `limit` bytes and `most` items wait to be taken, or one. What `make` raises is raised in its place in the order.
    The thread ends when all is made, after `close`, and when the interpreter ends; `close` waits for nothing, and `cancel` is
    called by it to wake a `make` that waits. A forked child makes what comes next by a thread of its own.
    """

    def __init__(
        self, make: Callable[[int], Generator[M]], *, limit: int, most: int, cancel: Callable[[], None] = lambda: None
    ) -> None:
        self._make, self._limit, self._most, self._cancel = make, limit, most, cancel
        self._taken = 0
        self._error: BaseException | None = None
        self._user = threading.current_thread()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> M:
        if self._process != os.getpid():
            self._start()
        self._user = threading.current_thread()
        with self._changed:
            while not self._ready:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._ended:
                    raise StopIteration
                self._changed.wait()
            item = self._ready.popleft()
            self._bytes -= item.nbytes
            self._taken += 1
            self._changed.notify_all()
            return item

    @property
    def waiting(self) -> int:
        """How many items are made and not taken."""
        return len(self._ready)

    def close(self) -> None:
        """End it; what was made is let go."""
        if self._process == os.getpid():
            with self._changed:
                self._closed = True
                self._ready.clear()
                self._changed.notify_all()
            self._cancel()

    def wanted(self) -> bool:
        """Whether somebody may still take what is made: neither closed, nor has the interpreter or the taker's thread ended."""
        return not self._closed and any(one.is_alive() for one in (threading.main_thread(), self._user) if not one.daemon)

    def _start(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._ready: deque[M] = deque()
        self._bytes, self._closed, self._ended, self._error = 0, False, False, None
        self._user = threading.current_thread()
        threading.Thread(target=self._run, name="shardwright-loader").start()

    def _run(self) -> None:
        items = self._make(self._taken)
        error: BaseException | None = None
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as raised:  # noqa: BLE001 - raised where the item would be taken
            error = raised
        items.close()
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, item: M) -> bool:
        """Whether there was, in the end, room for it."""
        with self._changed:
            while self.wanted():
                if not self._ready or (len(self._ready) < self._most and self._bytes + item.nbytes <= self._limit):
                    self._ready.append(item)
                    self._bytes += item.nbytes
                    self._changed.notify_all()
                    return True
                self._changed.wait(_WAKE_SECONDS)
        return False
