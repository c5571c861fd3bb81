"""A directory at any URL that fsspec knows, for reading by ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import fsspec

from shardwright.errors import CorruptError, StorageError
from shardwright.storage.base import check_name


class RemoteStorage:
    """Files under an fsspec URL. The client is opened once per object; open a new one after a fork."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._fs: Any
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise StorageError(f"can't open {url!r}: {error}") from error

    def local_path(self, name: str = "") -> None:  # noqa: ARG002 - the protocol's
        """None: remote files are read by ranges."""
        return

    def read(self, name: str) -> bytes:
        """The whole file."""
        return bytes(self._fs.cat_file(self._full(name)))

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span, fetched together where the file system can."""
        path = self._full(name)
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        out = [bytes(data) for data in self._fs.cat_ranges([path] * len(spans), starts, ends, on_error="raise")]
        for data, (start, end) in zip(out, spans, strict=True):
            if len(data) != end - start:
                raise CorruptError(f"{self.url}/{name}: expected bytes {start} to {end}, the file ends before that")
        return out

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in."""
        return cast(BinaryIO, self._fs.open(self._full(name), "rb"))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._fs.size(self._full(name)))

    def names(self, name: str = "") -> list[str]:
        """The names in a directory, sorted."""
        try:
            found = self._fs.ls(self._full(name) if name else self._root, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)

    def _full(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{check_name(name)}"
