"""Local files behind an fsspec file system that answers late, counts what it is asked, and can be told to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class SlowFileSystem(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """slow:///path: each range takes `seconds`; `asked` notes (path, start, end) of each; -1 for a whole file."""

    protocol = "slow"
    asked: ClassVar[list[tuple[str, int, int]]] = []
    seconds: ClassVar[float] = 0.0
    broken: ClassVar[str | None] = None
    """Paths that contain this fail as a dead network does."""
    at_once: ClassVar[int] = 0
    most_at_once: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("slow://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        cls = type(self)
        with self._lock:
            cls.asked.append((path, -1 if start is None else start, -1 if end is None else end))
            cls.at_once += 1
            cls.most_at_once = max(cls.most_at_once, cls.at_once)
        try:
            time.sleep(cls.seconds)
            if cls.broken is not None and cls.broken in path:
                raise ConnectionResetError("the network is gone")
            return bytes(super().cat_file(path, start, end, **kwargs))
        finally:
            with self._lock:
                cls.at_once -= 1


@contextmanager
def slow_files(seconds: float = 0.0) -> Iterator[type[SlowFileSystem]]:
    """slow:// for the context, with nothing counted yet."""
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    SlowFileSystem.asked.clear()
    SlowFileSystem.seconds, SlowFileSystem.broken, SlowFileSystem.most_at_once = seconds, None, 0
    yield SlowFileSystem
