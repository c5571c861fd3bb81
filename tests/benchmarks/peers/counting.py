"""Local files behind an fsspec file system that counts what it is asked, so that they are read as remote ones are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class CountingFileSystem(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Local files under counting:///path; counts reads, of whole files or ranges, and what else is asked."""

    protocol = "counting"
    reads: ClassVar[int] = 0
    others: ClassVar[int] = 0

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("counting://"))

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        CountingFileSystem.reads += 1
        return super()._open(path, *args, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        CountingFileSystem.others += 1
        return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        CountingFileSystem.others += 1
        return super().ls(path, detail=detail, **kwargs)


@contextmanager
def counting_files() -> Iterator[type[CountingFileSystem]]:
    """counting:// for the context, with nothing counted yet."""
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    CountingFileSystem.reads = CountingFileSystem.others = 0
    yield CountingFileSystem
