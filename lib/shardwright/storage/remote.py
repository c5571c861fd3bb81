"""A directory at any URL that fsspec knows, for reading by ranges."""

from __future__ import annotations

import getpass
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import fsspec

from shardwright.errors import CorruptError, ShardwrightError, StorageError
from shardwright.storage.base import Listed, check_name
from shardwright.storage.hadoop import configuration, is_secure
from shardwright.storage.webhdfs import kerberos_login, web_token

T = TypeVar("T")

_WEBHDFS_TRIES = 4
"""With pauses of 0.5 to 2 s: the NameNode sends the next request to another DataNode. Others' clients try again themselves."""

_MODIFIED = ("mtime", "modified", "LastModified", "last_modified", "modificationTime", "updated", "created")
"""What fsspec's file systems call the time when a file was last written, the surest first."""


class RemoteStorage:
    """Files under an fsspec URL. The client is opened once per object; open a new one after a fork.

    Over webhdfs:// and swebhdfs:// the user is that of the URL, else HADOOP_USER_NAME, else who runs this process.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._webhdfs = urlsplit(self.url).scheme in ("webhdfs", "swebhdfs")
        try:
            self._fs: Any
            if self._webhdfs:
                self._fs, self._root = fsspec.core.url_to_fs(self.url.removeprefix("s"), **_webhdfs_options(self.url))
            else:
                self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError, RuntimeError, OSError) as error:
            raise StorageError(f"can't open {url!r}: {error}") from error

    @property
    def gap_bytes(self) -> int:
        """Over HTTP a request takes tens of milliseconds; WebHDFS asks the NameNode each time, and is sent on."""
        return 2**22 if self._webhdfs else 2**20

    def local_path(self, name: str = "") -> None:  # noqa: ARG002 - the protocol's
        """None: remote files are read by ranges."""
        return

    def read(self, name: str) -> bytes:
        """The whole file."""
        return bytes(self._do("read", name, self._fs.cat_file))

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span, fetched together where the file system can."""
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        fetched = self._do("read", name, lambda path: self._fs.cat_ranges([path] * len(spans), starts, ends, on_error="raise"))
        out = [bytes(data) for data in fetched]
        for data, (start, end) in zip(out, spans, strict=True):
            if len(data) != end - start:
                raise CorruptError(f"{self.url}/{name}: expected bytes {start} to {end}, the file ends before that")
        return out

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in."""
        return cast(BinaryIO, self._do("open", name, lambda path: self._fs.open(path, "rb")))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._bytes(name, self._do("look at", name, self._fs.size))

    def names(self, name: str = "") -> list[str]:
        """The names in a directory, sorted."""
        try:
            found = self._do("list", name, lambda path: self._fs.ls(path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)

    def listing(self, name: str = "") -> Iterator[Listed]:
        """Every file below a directory, or the file itself; as it is now, whatever was listed before."""
        root = self._full(name).rstrip("/")
        self._fs.invalidate_cache(root)
        found = self._do("list", name, lambda path: self._fs.find(path, detail=True))
        if not found:
            self._do("list", name, self._fs.info)  # raises where there is nothing
        for path, info in found.items():
            file = path.removeprefix(root).lstrip("/")
            yield Listed(file, self._bytes("/".join(filter(None, (name, file))), info["size"]), _modified_ns(info))

    def _bytes(self, name: str, told: int | None) -> int:
        if told is None:
            raise StorageError(
                f"{self.url}/{name}: the server does not say how many bytes it has; copy it to where that is known"
            )
        return int(told)

    def _full(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{check_name(name)}" if name else self._root

    def _do(self, doing: str, name: str, work: Callable[[str], T]) -> T:
        """What `work` gives for the path of `name`. Raises FileNotFoundError, NotADirectoryError, StorageError for all else."""
        path, tries, pause = self._full(name), _WEBHDFS_TRIES if self._webhdfs else 1, 0.5
        while True:
            try:
                return work(path)
            except (ShardwrightError, FileNotFoundError, NotADirectoryError):
                raise
            except Exception as error:  # of any file system: their errors have nothing in common
                tries -= 1
                if tries < 1 or isinstance(error, PermissionError):
                    raise StorageError(f"can't {doing} {self.url}/{name}: {_reason(error)}") from error
            time.sleep(pause)
            pause *= 2


def _webhdfs_options(url: str) -> dict[str, Any]:
    """What fsspec would not know from the URL alone: it takes the port of Hadoop 2, and no user."""
    parts = urlsplit(url)
    secure = parts.scheme == "swebhdfs"
    user = parts.username or os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
    server = {"port": parts.port or (9871 if secure else 9870), "use_https": secure}
    settings = configuration()
    if not is_secure(settings):
        return {**server, "user": user}
    if token := web_token(url, settings):
        return {**server, "token": token.secret}
    kerberos_login()  # says what to install
    return {**server, "kerberos": True}


def _reason(error: BaseException) -> str:
    """The innermost cause, by one line: file systems over HTTP nest them."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    told = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    return re.sub(r"(delegation=)[^&\s]+", r"\1…", told)  # a secret, in the URLs of WebHDFS


def _modified_ns(info: Mapping[str, Any]) -> int:
    """Nanoseconds since 1970, from seconds, milliseconds (WebHDFS) or a time; 0 where none is told."""
    key = next((name for name in _MODIFIED if info.get(name)), None)
    if key is None:
        return 0
    value = info[key]
    if isinstance(value, datetime):
        return round(value.timestamp() * 1e6) * 1000
    return int(value) * 1_000_000 if key == "modificationTime" else round(float(value) * 1e6) * 1000
