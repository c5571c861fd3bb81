"""What is asked of the place where a dataset lies: `Storage` to read it, `WritableStorage` to publish there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol, Self

from shardwright.errors import StorageError
from shardwright.storage.hdfs_options import HdfsOptions


class Listed(NamedTuple):
    """A file as a listing shows it."""

    name: str
    """Relative to the directory that was listed."""
    bytes: int
    modified_ns: int
    """Nanoseconds since 1970; 0 where the storage does not say."""


class Storage(Protocol):
    """A directory at `url`; names are relative to it, '/'-separated."""

    url: str

    @property
    def gap_bytes(self) -> int:
        """So many bytes between two ranges cost as much to read along as another request does, with a few in flight."""

    def read(self, name: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes [start, end) of each span, in order. Raises CorruptError where the file ends before a span does."""

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in. Raises FileNotFoundError."""

    def size(self, name: str) -> int:
        """Bytes of a file. Raises FileNotFoundError."""

    def names(self, name: str = "") -> list[str]:
        """The names (last components) in a directory, sorted; empty where it does not exist."""

    def listing(self, name: str = "") -> Iterator[Listed]:
        """Every file below a directory, in any order, without a request for each; a file lists itself, under the name ''.

        Raises FileNotFoundError.
        """

    def local_path(self, name: str = "") -> Path | None:
        """Where the file lies on this machine, or None: then it is read by ranges."""


class WritableStorage(Storage, Protocol):
    """A storage that jobs publish to. Small: it travels to the executors, which open clients of their own.

    What is written is whole or absent under its name, whenever a process is killed. Raises StorageError with what an operator
    can mend: space, quota, permissions.
    """

    def exists(self, name: str = "") -> bool:
        """Whether a file or directory of that name exists."""

    def files(self, name: str = "") -> dict[str, int]:
        """Every file below a directory: its name relative to that, and its bytes; sorted, empty where there is none."""

    def child(self, name: str) -> Self:
        """The storage of a directory in this one, which need not exist yet."""

    def make_directory(self, name: str = "") -> None:
        """Create a directory with its parents."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, replacing one that exists in one step. Its directory must exist."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file that must not exist yet, in one step; False where it does."""

    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write a large file to, which is stored under `name` when the context ends without an error.

        `name` must not exist yet, its directory must. On a local disk the path is that of the file itself.
        """

    def rename(self, old: str, new: str) -> None:
        """Rename a file or directory. Raises FileExistsError where `new` exists, FileNotFoundError where `old` does not."""

    def touch(self, name: str) -> None:
        """Set a file's modification time to now. Raises FileNotFoundError."""

    def age(self, name: str) -> float:
        """Seconds since a file or directory was last written or touched, by the storage's clock. Raises FileNotFoundError."""

    def delete(self, name: str = "") -> None:
        """Remove a file or a whole directory for good; nothing happens where there is none."""

    def discard(self, name: str) -> str | None:
        """Remove what was published: into the trash, where there is one that is switched on.

        The URL that it has in the trash; None where it is gone for good.
        """


def open_storage(url: str, *, lasting: bool = False) -> Storage:
    """The storage at `url`: a plain path or file:// is local, hdfs:// goes through hdfs-native, anything else through fsspec.

    `lasting` promises that a file read by `ranges` is never replaced by another of its name, as in a published version: on HDFS
    that saves a question to the NameNode each time. Raises StorageError for a scheme that fsspec does not know or whose package
    is not installed.
    """
    from shardwright.storage.hdfs import HdfsStorage
    from shardwright.storage.remote import RemoteStorage

    if url.startswith("hdfs://"):
        return HdfsStorage(url, lasting=lasting)
    return RemoteStorage(url) if local_path_of(url) is None else open_writable(url)


def open_writable(url: str, options: HdfsOptions | None = None) -> WritableStorage:
    """The storage at `url` that can be written to: a plain path, file:// or hdfs://; `options` are how HDFS keeps it.

    Raises StorageError for any other URL, ConfigError for options with a local path.
    """
    from shardwright.storage.hdfs import HdfsStorage
    from shardwright.storage.local import LocalStorage

    if (path := local_path_of(url)) is not None:
        if options is not None:
            options.check_local(url)
        return LocalStorage(path)
    if url.startswith("hdfs://"):
        return HdfsStorage(url, options)
    raise StorageError(f"expected a local path, file:// or hdfs:// to write to, found {url!r}: {_advice(url)}")


def _advice(url: str) -> str:
    if url.startswith("viewfs://"):
        return "write the hdfs:// URL that is mounted there (fs.viewfs.mounttable in core-site.xml)"
    if url.startswith(("webhdfs://", "swebhdfs://")):
        return "WebHDFS is for reading; its NameNode's RPC address is another one (fs.defaultFS in core-site.xml)"
    return "other storages are only read"


def local_path_of(url: str) -> Path | None:
    """The local path that `url` names, or None for a remote one."""
    if url.startswith("file://"):
        rest = url.removeprefix("file://").removeprefix("localhost")
        if not rest.startswith("/"):
            raise StorageError(f"expected file:///absolute/path, found {url!r}")
        return Path(rest)
    if url.startswith("file:/"):
        return Path(url.removeprefix("file:"))
    if "://" in url:
        return None
    if found := re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", url):
        raise StorageError(f"expected a local path, or a URL with '//' after its scheme, found {url!r}: write {found[0]}//…")
    return Path(url).expanduser()


def check_name(name: str) -> str:
    """`name`, unless it could lead out of its directory: then StorageError. Names in manifests are not trusted."""
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise StorageError(f"expected a relative name without '..', found {name!r}")
    return name
