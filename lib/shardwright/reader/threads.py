"""Threads of a loader: one that makes batches ahead of the trainer, in order, and some that decode for it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

    def finish(self) -> float:
        """Wait until it is done: the seconds that other threads worked on it. Raises what the first step raised that failed."""


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
        return _Submitted([self._executor.submit(_timed, step) for step in steps])

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

    def finish(self) -> float:
        if self._error is not None:
            raise self._error
        return 0.0


class _Submitted:
    def __init__(self, futures: Sequence[Future[float]]) -> None:
        self._futures = futures

    def finish(self) -> float:
        failed = [error for future in self._futures if (error := future.exception()) is not None]
        if failed:
            raise failed[0]
        return sum(future.result() for future in self._futures)


def _timed(step: Step) -> float:
    """Do it: the processor seconds that it took, without those that it waited for pages of a disk, or for a processor."""
    began = time.thread_time()
    step()
    return time.thread_time() - began


class Made(Protocol):
    """Something that is made ahead."""

    @property
    def nbytes(self) -> int:
        """Of memory that it takes."""


M = TypeVar("M", bound=Made)


@dataclass(kw_only=True)
class Queued:
    """How many items were made, and waited to be taken."""

    now: int = 0
    asked: int = 0
    """How often one was asked for."""
    found: int = 0
    """How many waited then, all these times together."""
    full_seconds: float = 0.0
    """How long there was no room for more."""


class Ahead(Generic[M]):
    """What `make(n)` yields, from item n on, made by a thread ahead of who takes it: the same items in the same order.

    At most `limit` bytes and `most` items wait to be taken, or one: `queued` counts them. What `make` raises is raised in its
    place in the order. The thread ends when all is made, after `close`, and when the interpreter ends; `close` waits for
    nothing, and `cancel` is called by it to wake a `make` that waits. A forked child makes what comes next by a thread of its
    own.
    """

    def __init__(
        self,
        make: Callable[[int], Generator[M]],
        *,
        limit: int,
        most: int,
        queued: Queued,
        cancel: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._limit, self._most, self._cancel = make, limit, most, cancel
        self._taken, self._queued = 0, queued
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
            self._queued.asked += 1
            self._queued.found += len(self._ready)
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
            self._queued.now = len(self._ready)
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """End it; what was made is let go."""
        if self._process == os.getpid():
            with self._changed:
                self._closed = True
                self._ready.clear()
                self._queued.now = 0
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
                    self._queued.now = len(self._ready)
                    self._changed.notify_all()
                    return True
                began = time.perf_counter()
                self._changed.wait(_WAKE_SECONDS)
                self._queued.full_seconds += time.perf_counter() - began
        return False
