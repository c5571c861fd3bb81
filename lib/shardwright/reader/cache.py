"""A cache bounded in bytes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

CACHE_BYTES = 256 * 2**20
_AT_ONCE = 8
K = TypeVar("K")


@dataclass(kw_only=True)
class CacheCounts:
    """How often what was asked for was in a cache, and how often not."""

    hits: int = 0
    misses: int = 0


class RecentlyUsed:
    """A cache of at most `limit` bytes that drops the least recently used first; the newest entry always stays.

    Several threads may use it. A forked child begins with an empty one, for a thread of its parent may have been at work in it.
    """

    def __init__(self, limit: int) -> None:
        self.row_groups = CacheCounts()
        """Counted by who keeps row groups here: of the smaller things, asked for again and again, nobody wants to know."""
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock, self._bytes = os.getpid(), threading.Lock(), 0
        self._entries: OrderedDict[object, tuple[Any, int]] = OrderedDict()

    def get(self, key: object, make: Callable[[], Any], nbytes: Callable[[Any], int]) -> Any:
        """The value of `key`, made when it is not there; `nbytes` tells its size."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
        value = make()
        with self._lock:
            _, size = self._entries.pop(key, (None, 0))  # made by another thread meanwhile
            self._entries[key] = value, nbytes(value)
            self._bytes += nbytes(value) - size
            while self._bytes > self._limit and len(self._entries) > 1:
                _, (_, size) = self._entries.popitem(last=False)
                self._bytes -= size
        return value

    def prepare(self, keys: Sequence[K], make: Callable[[K], Any], nbytes: Callable[[Any], int]) -> None:
        """Make the values of `keys` that are not there, several at once: for what waits for remote files."""
        absent = [key for key in keys if key not in self._entries]
        if len(absent) > 1:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda key: self.get(key, lambda: make(key), nbytes), absent))
