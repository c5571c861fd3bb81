"""A directory on HDFS, by hdfs-native: no JVM. HADOOP_CONF_DIR says where the NameNodes of a nameservice are."""

from __future__ import annotations

import errno
import functools
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from shardwright.errors import StorageError
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
_CLOCK_SECONDS = 5.0
"""How far off the NameNode's clock may be taken for: a lock is stale after a minute."""
_READERS = 256
"""Files whose block locations are kept: asking takes 1 ms and more, and the NameNode answers everybody."""


class HdfsStorage:
    """Files under hdfs://host:port/path, hdfs://nameservice/path, or hdfs:///path of the configured default.

    Nothing is asked of the cluster before the first use. One that was used, or came from a process where it was, waits for a
    NameNode that is away; otherwise a server that does not answer is an error within seconds. `options` say how what is written
    is kept; `lasting` promises that files are never replaced, so that what `ranges` learnt of one is kept.
    """

    gap_bytes = GAP_BYTES

    def __init__(self, url: str, options: HdfsOptions | None = None, *, known: bool = False, lasting: bool = False) -> None:
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")  # as Hadoop has it, not as in other URLs: ?, # and % stand for themselves
        names = [name for name in path.split("/") if name]
        if scheme != "hdfs" or not {".", ".."}.isdisjoint(names):
            raise StorageError(f"expected hdfs://host:port/path without '.' and '..', found {url!r}")
        self._server = f"hdfs://{authority}"
        self._root = "".join(f"/{name}" for name in names)
        self.url = self._server + self._root
        self._options = options or HdfsOptions()
        self._known, self._lasting = known, lasting
        self._readers: tuple[int, dict[str, HdfsReader]] = (0, {})

    def __reduce__(self) -> tuple[object, ...]:
        known = self._known or connected(self._server)
        return functools.partial(type(self), known=known, lasting=self._lasting), (self.url, self._options)

    def local_path(self, name: str = "") -> None:  # noqa: ARG002 - the protocol's
        """None: files are read by ranges."""
        return

    def read(self, name: str) -> bytes:
        """The whole file."""
        reader = self._reader(name)
        return reader.spans([(0, reader.size)])[0]

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span; near ones by one request, several requests at once."""
        if not self._lasting:
            return self._reader(name).spans(spans)
        process, readers = self._readers
        if process != os.getpid():  # those of the process that was forked hang
            process, readers = self._readers = os.getpid(), {}
        reader = readers.get(name)
        if reader is None:
            if len(readers) >= _READERS:
                readers.clear()
            reader = readers[name] = self._reader(name)
        return reader.spans(spans)

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in, with read-ahead that grows to 2 MiB, one step ahead of who reads."""
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
        url = f"{self.url}/{check_name(name)}"
        return HdfsStorage(url, self._options.below(), known=self._known, lasting=self._lasting)

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
        where = f"{self.url}/{old} to {new}"
        if trying("rename", where, lambda: _exists(client, target)):  # so a target that is there later is this one's
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where)
        trying("rename", where, lambda: _rename(client, source, target, overwrite=False))

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
        connection, path, where = self._connection, self._full(name), f"{self.url}/{name}"
        options = connection.write_options(self._options, size)
        directory, _, last = path.rpartition("/")
        left: list[str] = []

        def remove() -> None:
            while left:
                connection.quick.delete(left[-1], False)
                left.pop()

        def store() -> str:
            with suppress(Exception):  # what the last try left; where that does not work yet, after the next
                remove()
            temporary = f"{directory}/.{last}.{uuid.uuid4().hex}"
            left.append(temporary)
            target = connection.client.create(temporary, options)
            fill(target)
            begun = time.monotonic()
            target.close()  # never by `with`: that also closes a file that is not whole, which then looks so
            _note_clock(connection, temporary, begun)
            return temporary

        try:
            temporary = trying("write", where, store, tries=_TRIES)
            # the rename alone is tried again: it may have happened
            trying("write", where, lambda: _rename(connection.client, temporary, path, overwrite=overwrite))
            left.remove(temporary)
        finally:
            with suppress(Exception):
                remove()

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


def _note_clock(connection: Connection, path: str, begun: float) -> None:
    """Learn the NameNode's time from a file that was closed since `begun`; not where it was slow to answer."""
    if connection.now() is None:
        written = connection.client.get_file_info(path).modification_time
        if time.monotonic() - begun < _CLOCK_SECONDS:
            connection.learn_clock(written)


def _rename(client: Any, source: str, target: str, *, overwrite: bool) -> None:
    """Rename what nobody else renames, to what is not there yet or is replaced."""
    try:
        client.rename(source, target, overwrite)
    except FileNotFoundError:
        # the NameNode may have done it and died before it answered: hdfs-native asks again, and the source is gone
        if _exists(client, source) or not _exists(client, target):
            raise


def _exists(client: Any, path: str) -> bool:
    try:
        client.get_file_info(path)
    except FileNotFoundError:
        return False
    return True
