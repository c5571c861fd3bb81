"""The reading half of a storage: what the reader needs of the place where a dataset lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from shardwright.errors import StorageError


class Storage(Protocol):
    """A directory at `url`; names are relative to it, '/'-separated."""

    url: str

    def read(self, name: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes [start, end) of each span, in order. Raises CorruptError where the file ends before a span does."""

    def size(self, name: str) -> int:
        """Bytes of a file. Raises FileNotFoundError."""

    def names(self, name: str = "") -> list[str]:
        """The names (last components) in a directory, sorted; empty where it does not exist."""

    def local_path(self, name: str = "") -> Path | None:
        """Where the file lies on this machine, or None: then it is read by ranges."""


def open_storage(url: str) -> Storage:
    """The storage at `url`: a plain path or file:// is local, anything else goes through fsspec.

    Raises StorageError for a scheme that fsspec does not know or whose package is not installed.
    """
    from shardwright.storage.local import LocalStorage
    from shardwright.storage.remote import RemoteStorage

    path = local_path_of(url)
    return LocalStorage(path) if path is not None else RemoteStorage(url)


def local_path_of(url: str) -> Path | None:
    """The local path that `url` names, or None for a remote one."""
    if url.startswith("file://"):
        rest = url.removeprefix("file://").removeprefix("localhost")
        if not rest.startswith("/"):
            raise StorageError(f"expected file:///absolute/path, found {url!r}")
        return Path(rest)
    if url.startswith("file:/"):
        return Path(url.removeprefix("file:"))
    return None if "://" in url else Path(url).expanduser()


def check_name(name: str) -> str:
    """`name`, unless it could lead out of its directory: then StorageError. Names in manifests are not trusted."""
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise StorageError(f"expected a relative name without '..', found {name!r}")
    return name
