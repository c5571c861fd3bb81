"""Where the files of a dataset lie: what a reader asks of a storage, an fsspec file system or a pyarrow one."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Protocol
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa

from shardwright.errors import StorageError
from shardwright.storage import Storage, open_storage, open_writable


class Files(Protocol):
    """A directory at `url`; names are relative to it, '/'-separated."""

    url: str

    @property
    def local(self) -> bool:
        """Whether the files are on this machine, and mapped."""

    def is_file(self) -> bool:
        """Whether `url` is a file itself."""

    def listing(self) -> list[str]:
        """Every file below the directory."""

    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def open(self, name: str) -> pa.NativeFile:
        """A file to read and seek in."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, replacing one that exists."""

    def delete(self, name: str) -> None:
        """Remove a file where there is one."""


class StorageFiles:
    """The files of one of this package's storages: local disks, HDFS, and any URL of fsspec."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.url = storage.url

    @property
    def local(self) -> bool:
        """Whether the storage has local paths."""
        return self._storage.local_path() is not None

    def is_file(self) -> bool:
        """A file lists itself, under the name ''."""
        path = self._storage.local_path()
        if path is not None:
            return path.is_file()
        return [found.name for found in islice(self._storage.listing(), 1)] == [""]

    def listing(self) -> list[str]:
        """Every file below the directory."""
        return [found.name for found in self._storage.listing()]

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self._storage.read(name)

    def open(self, name: str) -> pa.NativeFile:
        """A local file as a memory map."""
        path = self._storage.local_path(name)
        return pa.PythonFile(self._storage.open(name), mode="r") if path is None else pa.memory_map(str(path))

    def write(self, name: str, data: bytes) -> None:
        """In one step. Raises StorageError where the storage is for reading alone."""
        open_writable(self.url).write(name, data)

    def delete(self, name: str) -> None:
        """Remove a file where there is one."""
        open_writable(self.url).delete(name)


class FsspecFiles:
    """The files of a file system that the caller made; `root` is the directory's path there."""

    local = False

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self.url = self._root

    def is_file(self) -> bool:
        """Whether the root is a file."""
        return bool(self._fs.isfile(self._root))

    def listing(self) -> list[str]:
        """Every file below the directory."""
        found = self._fs.find(self._root)
        return [path[len(self._fs._strip_protocol(self._root)) :].lstrip("/") for path in found]  # noqa: SLF001 - fsspec's own way

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return bytes(self._fs.cat_file(self._path(name)))

    def open(self, name: str) -> pa.NativeFile:
        """A file to read and seek in."""
        return pa.PythonFile(self._fs.open(self._path(name), "rb"), mode="r")

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, replacing one that exists."""
        self._fs.pipe_file(self._path(name), data)

    def delete(self, name: str) -> None:
        """Remove a file where there is one."""
        if self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def open_files(url: str, filesystem: Any = None, storage_options: Mapping[str, Any] | None = None) -> Files:
    """The directory or file at `url`, a URL or a plain path.

    `filesystem` is one of fsspec's or pyarrow.fs's, `storage_options` what fsspec's is made with. Raises StorageError for one
    of pyarrow's removed `pyarrow.filesystem`, TypeError for anything else.
    """
    if filesystem is None and not storage_options:
        return StorageFiles(open_storage(url))
    if filesystem is None:
        filesystem, root = fsspec.core.url_to_fs(url, **dict(storage_options or {}))
        return FsspecFiles(filesystem, root)
    root = path_of(url)
    if isinstance(filesystem, pa.fs.FileSystem):
        from fsspec.implementations.arrow import ArrowFSWrapper

        return FsspecFiles(ArrowFSWrapper(filesystem), root)
    if isinstance(filesystem, fsspec.AbstractFileSystem):
        return FsspecFiles(filesystem, root)
    raise StorageError(
        f"filesystem: expected one of fsspec's or pyarrow.fs's, found "
        f"{type(filesystem).__module__}.{type(filesystem).__name__} "
        "(pyarrow.filesystem was removed from pyarrow)"
    )


def path_of(url: str) -> str:
    """The path of a URL as its file system has it: without scheme, and for file and hdfs without host."""
    parts = urlsplit(url)
    if parts.scheme in ("", "file", "hdfs"):
        return parts.path
    return f"{parts.netloc}{parts.path}"


def split_files(urls: Sequence[str]) -> tuple[str, list[str]]:
    """The directory above some files, and their names relative to it. Raises ValueError for two servers."""
    places = {urlsplit(url)[:2] for url in urls}
    if len(places) > 1:
        raise ValueError("The dataset url list must contain url with the same scheme and netloc.")
    parents = [url.rpartition("/")[0] for url in urls]
    root = posixpath.commonprefix([f"{parent}/" for parent in parents]).rpartition("/")[0]
    return root, [url[len(root) + 1 :] for url in urls]
