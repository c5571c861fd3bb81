"""Row groups loaded ahead by threads and handed out in order, within a number of them and of bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")


class Prefetch(Generic[I, T]):
    """What `load(item)` returns for each of `items`, in order.

    With `threads` 0 everything is loaded when it is asked for. Else at most `most` items are being loaded or wait, of at most
    `limit_bytes` together by `nbytes(item)`, or one. What `load` raises is raised in its place in the order. `close` ends it
    and waits for nothing.
    """

    def __init__(
        self,
        load: Callable[[I], T],
        items: Iterator[I],
        *,
        threads: int,
        most: int,
        limit_bytes: int,
        nbytes: Callable[[I], int],
    ) -> None:
        self._load, self._items, self._nbytes = load, items, nbytes
        self._most, self._limit = most, limit_bytes
        self._next: I | None = None
        self._ahead: deque[tuple[I, int, Future[T]]] = deque()
        self._bytes = 0
        self._closed = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="shardwright-petastorm") if threads else None

    def __iter__(self) -> Iterator[tuple[I, T]]:
        return self

    def __next__(self) -> tuple[I, T]:
        if self._threads is None:
            item = next(self._items)
            return item, self._load(item)
        self._fill(self._threads)
        if not self._ahead:
            raise StopIteration
        item, size, future = self._ahead.popleft()
        try:
            loaded = future.result()
        finally:
            self._bytes -= size
        self._fill(self._threads)
        return item, loaded

    def close(self) -> None:
        """Nothing more is loaded, and what was is let go."""
        self._closed = True
        self._ahead.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait until the threads have ended, after `close`."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Items that are being loaded, or were."""
        return len(self._ahead)

    def _fill(self, threads: ThreadPoolExecutor) -> None:
        while not self._closed and len(self._ahead) < self._most:
            if self._next is None:
                self._next = next(self._items, None)
                if self._next is None:
                    return
            size = self._nbytes(self._next)
            if self._ahead and self._bytes + size > self._limit:
                return
            self._ahead.append((self._next, size, threads.submit(self._loaded, self._next)))
            self._bytes += size
            self._next = None

    def _loaded(self, item: I) -> T:
        if self._closed or not threading.main_thread().is_alive():  # nobody will take it
            raise RuntimeError("the reader was stopped")
        return self._load(item)
