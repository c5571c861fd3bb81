"""A directory on HDFS, by hdfs-native: no JVM. HADOOP_CONF_DIR says where the NameNodes of a nameservice are."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from shardwright.errors import CorruptError, MissingDependencyError, StorageError
from shardwright.storage.base import check_name

_COPY_BYTES = 8 * 2**20


class HdfsStorage:
    """Files under hdfs://host:port/path, hdfs://nameservice/path, or hdfs:///path of the configured default."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme != "hdfs" or ".." in parts.path.split("/"):
            raise StorageError(f"expected hdfs://host:port/path without '..', found {url!r}")
        self._server = f"hdfs://{parts.netloc}"
        self._root = parts.path or "/"
        self._opened: tuple[int, Any] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url,)

    def local_path(self, name: str = "") -> None:  # noqa: ARG002 - the protocol's
        """None: files are read by ranges."""
        return

    def read(self, name: str) -> bytes:
        """The whole file."""
        return bytes(self._client.read(self._full(name)).read())

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span."""
        reader = self._client.read(self._full(name))
        for start, end in spans:
            if end > len(reader):
                raise CorruptError(f"{self.url}/{name}: expected bytes {start} to {end}, the file ends before that")
        return [bytes(reader.read_range(start, end - start)) for start, end in spans]

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in."""
        return cast(BinaryIO, io.BufferedReader(self._client.read(self._full(name)), _COPY_BYTES))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._client.get_file_info(self._full(name)).length)

    def names(self, name: str = "") -> list[str]:
        """The names in a directory, sorted."""
        try:
            return sorted(status.path.rsplit("/", 1)[-1] for status in self._client.list_status(self._full(name), False))
        except FileNotFoundError:
            return []

    def exists(self, name: str = "") -> bool:
        """Whether a file or directory of that name exists."""
        try:
            self._client.get_file_info(self._full(name))
        except FileNotFoundError:
            return False
        return True

    def files(self, name: str = "") -> dict[str, int]:
        """Every file below a directory, with its bytes."""
        root = self._full(name)
        try:
            found = list(self._client.list_status(root, True))
        except FileNotFoundError:
            return {}
        return dict(sorted((one.path.removeprefix(f"{root}/"), one.length) for one in found if not one.isdir))

    def child(self, name: str) -> HdfsStorage:
        """The storage of a directory in this one."""
        return HdfsStorage(f"{self.url}/{check_name(name)}")

    def make_directory(self, name: str = "") -> None:
        """Create a directory with its parents."""
        self._client.mkdirs(self._full(name), 0o755, True)

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing one that exists."""
        temporary = self._temporary(name)
        self._put(temporary, data)
        self._client.rename(temporary, self._full(name), True)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not exist yet, in one step; False where it does."""
        temporary = self._temporary(name)
        self._put(temporary, data)
        try:
            self._client.rename(temporary, self._full(name), False)
        except FileExistsError:
            self._client.delete(temporary, False)
            return False
        return True

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """A path in a scratch directory, from which the file is uploaded."""
        with tempfile.TemporaryDirectory(prefix="shardwright-") as scratch:
            path = Path(scratch, self._full(name).rsplit("/", 1)[-1])
            yield path
            temporary = self._temporary(name)
            with open(path, "rb") as source, self._client.create(temporary) as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
            self._client.rename(temporary, self._full(name), False)

    def rename(self, old: str, new: str) -> None:
        """Rename a file or directory to a name that does not exist yet."""
        self._client.rename(self._full(old), self._full(new), False)

    def touch(self, name: str) -> None:
        """Set a file's modification time to now."""
        now = int(time.time() * 1000)
        self._client.set_times(self._full(name), now, now)

    def age(self, name: str) -> float:
        """Seconds since a file was last written or touched."""
        return time.time() - float(self._client.get_file_info(self._full(name)).modification_time) / 1000

    def delete(self, name: str = "") -> None:
        """Remove a file or a whole directory for good; nothing happens where there is none."""
        self._client.delete(self._full(name), True)

    def discard(self, name: str) -> None:
        """Move what was published to the trash, where that is switched on."""
        self.delete(name)

    @property
    def _client(self) -> Any:
        """The client of this process: one that a fork brought along hangs."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                import hdfs_native
            except ImportError as error:
                raise MissingDependencyError("hdfs:// needs hdfs-native: pip install 'shardwright[hdfs]'") from error
            self._opened = os.getpid(), hdfs_native.Client(self._server)
        return self._opened[1]

    def _full(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}" if name else self._root

    def _temporary(self, name: str) -> str:
        directory, _, last = self._full(name).rpartition("/")
        return f"{directory}/.{last}.{uuid.uuid4().hex}"

    def _put(self, path: str, data: bytes) -> None:
        with self._client.create(path) as target:
            target.write(data)
