"""A directory on HDFS, by hdfs-native: no JVM. HADOOP_CONF_DIR says where the NameNodes of a nameservice are."""

from __future__ import annotations

import functools
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from shardwright.errors import CorruptError, StorageError
from shardwright.storage.base import Listed, check_name
from shardwright.storage.hdfs_client import Connection, connect, connected
from shardwright.storage.hdfs_errors import trying
from shardwright.storage.hdfs_options import HdfsOptions
from shardwright.storage.hdfs_reading import GAP_BYTES, HdfsFile, HdfsReader
from shardwright.storage.scratch import scratch_file
from shardwright.storage.webhdfs import WebHdfs

T = TypeVar("T")

_TRIES = 8
"""A file being written is lost with one of its DataNodes: it is written again as a whole, with pauses of 0.5 to 10 s, 35 s in
all; until the NameNode has missed the DataNode (3 s to 10 minutes, as configured) it may choose it again for a block."""
_COPY_BYTES = 4 * 2**20
_LINE_BYTES = 64 * 2**10
_READERS = 256
"""Files whose block locations are kept: asking takes 1 ms and more, and the NameNode answers everybody."""


class HdfsStorage:
    """Files under hdfs://host:port/path, hdfs://nameservice/path, or hdfs:///path of the configured default.

    Nothing is asked of the cluster before the first use. One that was used, or came from a process where it was, waits for a
    NameNode that is away; otherwise a server that does not answer is an error within seconds. `options` say how what is written
    is kept.
    """

    gap_bytes = GAP_BYTES

    def __init__(self, url: str, options: HdfsOptions | None = None, *, known: bool = False) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme != "hdfs" or ".." in parts.path.split("/"):
            raise StorageError(f"expected hdfs://host:port/path without '..', found {url!r}")
        self._server = f"hdfs://{parts.netloc}"
        self._root = parts.path
        self._options = options or HdfsOptions()
        self._known = known
        self._readers: tuple[int, dict[str, HdfsReader]] = (0, {})

    def __reduce__(self) -> tuple[object, ...]:
        known = self._known or connected(self._server)
        return functools.partial(type(self), known=known), (self.url, self._options)

    def local_path(self, name: str = "") -> None:  # noqa: ARG002 - the protocol's
        """None: files are read by ranges."""
        return

    def read(self, name: str) -> bytes:
        """The whole file."""
        reader = self._reader(name)
        return reader.spans([(0, reader.size)])[0]

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span; near ones by one request, several requests at once."""
        process, readers = self._readers
        if process != os.getpid():  # those of the process that was forked hang
            process, readers = self._readers = os.getpid(), {}
        if (kept := readers.get(name)) is not None:
            with suppress(CorruptError, StorageError, FileNotFoundError):  # the file may be another one by now
                return kept.spans(spans)
        if len(readers) >= _READERS:
            readers.clear()
        readers[name] = self._reader(name)
        return readers[name].spans(spans)

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in, with read-ahead of up to 8 MiB."""
        return cast(BinaryIO, io.BufferedReader(HdfsFile(self._reader(name)), _LINE_BYTES))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._do("look at", name, lambda client, path: client.get_file_info(path)).length)

    def names(self, name: str = "") -> list[str]:
        """The names in a directory, sorted."""
        try:
            found = self._do("list", name, lambda client, path: [one.path for one in client.list_status(path, False)])
        except (FileNotFoundError, NotADirectoryError):
            return []
        inside = f"{self._full(name).rstrip('/')}/"
        return sorted(path.removeprefix(inside) for path in found if path.startswith(inside))  # a file lists itself

    def listing(self, name: str = "") -> Iterator[Listed]:
        """Every file below a directory, or the file itself: a thousand by a request, one request at least for a directory."""
        root = self._full(name).rstrip("/")
        for found in self._do("list", name, lambda client, path: list(client.list_status(path, True))):
            if not found.isdir:
                yield Listed(found.path.removeprefix(root).lstrip("/"), found.length, found.modification_time * 1_000_000)

    def exists(self, name: str = "") -> bool:
        """Whether a file or directory of that name exists."""
        try:
            self._do("look at", name, lambda client, path: client.get_file_info(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def files(self, name: str = "") -> dict[str, int]:
        """Every file below a directory, with its bytes."""
        while True:
            try:
                return {one.name: one.bytes for one in sorted(self.listing(name))}
            except FileNotFoundError:  # or of a directory inside, which went meanwhile
                if not self.exists(name):
                    return {}

    def child(self, name: str) -> HdfsStorage:
        """The storage of a directory in this one."""
        return HdfsStorage(f"{self.url}/{check_name(name)}", self._options.below(), known=self._known)

    def make_directory(self, name: str = "") -> None:
        """Create a directory with its parents; that of the storage itself gets the group and policies of its options."""
        permission = self._options.permission(0o777, self._connection.settings)
        self._do("create the directory", name, lambda client, path: client.mkdirs(path, permission, True))
        if not name:
            self._set_up()

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing one that exists."""
        self._store(name, lambda target: target.write(data), len(data), overwrite=True)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not exist yet, in one step; False where it does."""
        try:
            self._store(name, lambda target: target.write(data), len(data), overwrite=False)
        except FileExistsError:
            return False
        return True

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """A path in a scratch directory, from which the file is uploaded."""
        with scratch_file(self._full(name).rpartition("/")[2], f"{self.url}/{name}") as path:
            yield path

            def upload(target: Any) -> None:
                with open(path, "rb") as source:
                    while data := source.read(_COPY_BYTES):
                        target.write(data)

            self._store(name, upload, path.stat().st_size, overwrite=False)

    def rename(self, old: str, new: str) -> None:
        """Rename a file or directory to a name that does not exist yet."""
        client, source, target = self._connection.client, self._full(old), self._full(new)
        trying("rename", f"{self.url}/{old} to {new}", lambda: client.rename(source, target, False))

    def touch(self, name: str) -> None:
        """Set a file's modification time to the NameNode's now."""
        now = int(self._now() * 1000)
        self._do("touch", name, lambda client, path: client.set_times(path, now, now))

    def age(self, name: str) -> float:
        """Seconds since a file was last written or touched, by the NameNode's clock."""
        written = self._do("look at", name, lambda client, path: client.get_file_info(path)).modification_time
        return self._now() - float(written) / 1000

    def delete(self, name: str = "") -> None:
        """Remove a file or a whole directory for good; nothing happens where there is none."""
        self._do("remove", name, lambda client, path: client.delete(path, True))

    def discard(self, name: str) -> str | None:
        """Move what was published to the trash, where that is switched on; else remove it for good."""
        trash = self._connection.trash
        place = self._do("move to the trash", name, lambda _client, path: trash(path))
        if place is None:
            self.delete(name)
            return None
        return f"{self._connection.server}{place}"

    @property
    def _connection(self) -> Connection:
        connection = connect(self._server, known=self._known)
        self._known = True
        return connection

    def _do(self, doing: str, name: str, work: Callable[[Any, str], T]) -> T:
        """What `work` gives for the client and the path of `name`."""
        client, path = self._connection.client, self._full(name) or "/"
        return trying(doing, f"{self.url}/{name}".rstrip("/"), lambda: work(client, path))

    def _reader(self, name: str) -> HdfsReader:
        return HdfsReader(self._connection, self._full(name), f"{self.url}/{name}")

    def _full(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}" if name else self._root

    def _store(self, name: str, fill: Callable[[Any], object], size: int, *, overwrite: bool) -> None:
        """Have `fill` write a temporary file, and rename it to `name`; again as a whole where that breaks off."""
        connection, path = self._connection, self._full(name)
        options = connection.write_options(self._options, size)

        def store() -> None:
            directory, _, last = path.rpartition("/")
            temporary = f"{directory}/.{last}.{uuid.uuid4().hex}"
            try:
                target = connection.client.create(temporary, options)
                fill(target)
                target.close()  # never by `with`: that also closes a file that is not whole, which then looks so
                self._note_clock(connection, temporary)
                _rename_own(connection.client, temporary, path, overwrite=overwrite)
            except BaseException:
                with suppress(Exception):
                    connection.quick.delete(temporary, False)
                raise

        trying("write", f"{self.url}/{name}", store, tries=_TRIES)

    def _set_up(self) -> None:
        """Give the directory the group and the policies that it does not have yet."""
        options = self._options
        if (group := options.group) is not None:
            info = self._do("look at", "", lambda client, path: client.get_file_info(path))
            if info.group != group:
                self._do(f"give to group {group}", "", lambda client, path: client.set_owner(path, None, group))
        if options.storage_policy is None and options.erasure_coding is None:
            return
        web = WebHdfs(self._connection.server)
        if (policy := options.storage_policy) is not None:
            found = web.call("GET", "GETSTORAGEPOLICY", self._root)["BlockStoragePolicy"]
            if found.get("name") != policy:
                web.call("PUT", "SETSTORAGEPOLICY", self._root, storagepolicy=policy)
        if (coding := options.erasure_coding) is not None and web.call("GET", "GETECPOLICY", self._root).get("name") != coding:
            web.call("PUT", "SETECPOLICY", self._root, ecpolicy=coding)

    def _now(self) -> float:
        """The NameNode's time; this machine's where it can't be learnt, since nothing may be written there."""
        connection = self._connection
        if connection.now() is None:
            with suppress(OSError):
                self.create(name := f".clock.{uuid.uuid4().hex}", b"")
                self.delete(name)
        return connection.now() or time.time()

    def _note_clock(self, connection: Connection, path: str) -> None:
        if connection.now() is None:
            connection.learn_clock(connection.client.get_file_info(path).modification_time)


def _rename_own(client: Any, temporary: str, path: str, *, overwrite: bool) -> None:
    """Rename a file that nobody else knows of."""
    try:
        client.rename(temporary, path, overwrite)
    except (FileNotFoundError, FileExistsError):
        # the NameNode may have done it and died before it answered: hdfs-native asks the next one again
        if _exists(client, temporary) or not _exists(client, path):
            raise


def _exists(client: Any, path: str) -> bool:
    try:
        client.get_file_info(path)
    except FileNotFoundError:
        return False
    return True
