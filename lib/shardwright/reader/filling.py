"""Filling the node's cache: a part that was read from is fetched whole, in a thread, while its reader goes on without it."""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from shardwright.errors import CorruptError
from shardwright.format.manifest import FileDigest
from shardwright.reader.catalog import Parts
from shardwright.storage.part_cache import CachePlace, Content, NoRoomError, PartCache

_log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 0.25
"""How soon a process takes over after one that was killed, or learns that another brought what it wants."""
_TRY_AGAIN_SECONDS = 60.0
"""After a file did not fit, or could not be read."""
_warned: dict[tuple[str, type[OSError]], str] = {}
ReadRange = Callable[[str, int, int], bytes]
"""The bytes [start, stop) of the file of a name."""


class Filling:
    """The parts of a version in the cache at `place`, and those that are to come.

    One process of the node fetches the parts of version `content_id` by `read`, one after the other; the others look for what
    it brought, and take over when it ends. Belongs to one process. Raises what `PartCache` does.
    """

    def __init__(self, place: CachePlace, content_id: str, parts: Parts, read: ReadRange, where: str) -> None:
        self._parts, self._content_id, self._read, self._where = parts, content_id, read, where
        self._files = {part: parts.files(part) for part in range(len(parts.name))}
        self._contents = {file.name: _content(file) for files in self._files.values() for file in files}
        self._cache = PartCache(place, self._contents.values())
        self._queue: deque[FileDigest] = deque()
        self._not_before: dict[str, float] = {}
        self._damaged: dict[str, CorruptError] = {}
        self._lock, self._closed, self._working = threading.Lock(), threading.Event(), False

    def find(self, name: str) -> Path | None:
        """Where a part or side file lies on this node. Raises CorruptError for one whose remote bytes turned out wrong."""
        if (error := self._damaged.get(name)) is not None:
            raise error
        content = self._contents.get(name)
        return None if content is None else self._cache.find(content)

    def want(self, part: int) -> None:
        """Have a part and its side files fetched, unless they are on their way, or did not fit a minute ago."""
        now = time.monotonic()
        if self._not_before.get(self._parts.name[part], -math.inf) > now:
            return
        with self._lock:
            for file in self._files[part]:
                if self._not_before.get(file.name, -math.inf) <= now:
                    self._not_before[file.name] = math.inf
                    self._queue.append(file)
            if self._queue and not self._working and not self._closed.is_set():
                self._working = True
                threading.Thread(target=self._work, name="shardwright-cache").start()

    def close(self) -> None:
        """Fetch nothing more; what is on its way is given up."""
        self._closed.set()

    def _going(self) -> bool:
        return not self._closed.is_set() and threading.main_thread().is_alive()

    def _work(self) -> None:
        claim: int | None = None
        try:
            while self._going() and (file := self._next()) is not None:
                try:
                    claim = self._cache.claim(self._content_id) if claim is None else claim
                    arrived = self._cache.find(_content(file)) is not None if claim is None else self._bring(file)
                except OSError as error:
                    self._put_aside(file, error)
                    continue
                if arrived:
                    self._queue.popleft()
                else:
                    self._queue.rotate(-1)
                    self._closed.wait(_LOOK_AGAIN_SECONDS)
        finally:
            if claim is not None:
                os.close(claim)

    def _next(self) -> FileDigest | None:
        with self._lock:
            if not self._queue:
                self._working = False
                return None
            return self._queue[0]

    def _bring(self, file: FileDigest) -> bool:
        read = functools.partial(self._read, file.name)
        try:
            return self._cache.bring(_content(file), read, where=f"{self._where}/{file.name}", going=self._going)
        except CorruptError as error:
            self._damaged[file.name] = error
            return True

    def _put_aside(self, failed: FileDigest, error: OSError) -> None:
        """Not now: of files that don't fit none that is larger will."""
        with self._lock:
            later = [f for f in self._queue if f is failed or (isinstance(error, NoRoomError) and f.bytes >= failed.bytes)]
            self._queue = deque(file for file in self._queue if file not in later)
            self._not_before |= dict.fromkeys((file.name for file in later), time.monotonic() + _TRY_AGAIN_SECONDS)
        _warn(str(self._cache.path), error)


def _warn(directory: str, error: OSError) -> None:
    """Once for each directory and process: training goes on as without a cache."""
    told = f"cache: {error}; parts that are not in it are read remotely"
    if _warned.setdefault((directory, type(error)), told) is told:  # one step, so that threads and forks need no lock
        _log.warning(told)


def _content(file: FileDigest) -> Content:
    return Content(file.sha256, file.bytes)
