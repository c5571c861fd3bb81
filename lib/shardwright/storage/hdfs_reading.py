"""Reading files of HDFS: several requests in flight, and again from other replicas when one fails."""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from shardwright.errors import CorruptError
from shardwright.storage.hdfs_client import Connection
from shardwright.storage.hdfs_errors import trying
from shardwright.storage.hdfs_fork import reading
from shardwright.storage.spans import REQUEST_BYTES, coalesce

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GAP_BYTES = 2**18
"""Spans so near to each other are fetched at once: a request costs 0.4 ms (of eight in flight) to 1.5 ms, in which 150 to
500 KB are read at 360 MB/s."""
_TRIES = 6
"""With pauses of 0.5 to 8 s: 16 s, in which a DataNode is restarted, or the NameNode has learnt of other replicas."""
_FIRST_AHEAD = 256 * 2**10
_PIECE_BYTES = 2 * 2**20
"""Several requests of this size at once are as fast as hdfs-native's own stream, and larger ones no faster."""


class HdfsReader:
    """One file, read at offsets; threads may share it. Raises FileNotFoundError when it does not exist."""

    def __init__(self, connection: Connection, path: str, where: str) -> None:
        self._connection, self._path, self._where = connection, path, where
        self._reader: Any = trying("read", where, lambda: connection.client.read(path), tries=_TRIES)
        self.size = len(self._reader)

    def spans(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes [start, end) of each span, in order. Raises CorruptError where the file ends before, StorageError."""
        for start, end in spans:
            if not 0 <= start <= end <= self.size:  # hdfs-native panics
                raise CorruptError(f"{self._where}: expected bytes {start} to {end}, the file ends before that")
        requests = list(_cut(coalesce((span for span in spans if span[0] < span[1]), GAP_BYTES)))
        fetch = self._connection.pool.map if len(requests) > 1 else map
        return _assemble(requests, list(fetch(self.fetch, requests)), spans)

    def fetch(self, span: tuple[int, int]) -> bytes:
        """The bytes [start, end) by one request, which lie in the file; after an error from a new reader: other replicas."""
        start, end = span
        reader = self._reader

        def read() -> bytes:
            nonlocal reader
            if reader is None:
                reader = self._connection.client.read(self._path)
                if len(reader) != self.size:
                    raise CorruptError(
                        f"{self._where}: expected {self.size} bytes, found {len(reader)}: replaced while it was read"
                    )
                self._reader = reader
            try:
                with reading():
                    return bytes(reader.read_range(start, end - start))
            except BaseException:
                reader = None
                raise

        return trying("read", f"bytes {start} to {end} of {self._where}", read, tries=_TRIES)

    def fetch_later(self, span: tuple[int, int]) -> Future[bytes]:
        """`fetch` in a thread."""
        return self._connection.pool.submit(self.fetch, span)


class HdfsFile(io.RawIOBase):
    """A file to be read and sought in; while it is read in sequence, the next bytes are on their way, more and more of them."""

    def __init__(self, reader: HdfsReader) -> None:
        self._reader = reader
        self._position = 0
        self._window, self._start = memoryview(b""), 0
        self._ahead = _FIRST_AHEAD
        self._next: tuple[int, Future[bytes]] | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set where the next read begins; past the end nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}[whence]
        if base + offset < 0:
            raise ValueError(f"expected a position in the file, found {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fills `buffer`, unless the file ends before."""
        target = memoryview(buffer).cast("B")
        wanted = max(0, min(len(target), self._reader.size - self._position))
        done = 0
        while done < wanted:
            offset = self._position - self._start
            if not 0 <= offset < len(self._window):
                self._load(wanted - done)
                offset = 0
            data = self._window[offset : offset + wanted - done]
            target[done : done + len(data)] = data
            done += len(data)
            self._position += len(data)
        return done

    def _load(self, wanted: int) -> None:
        start = self._position
        follows = start == self._start + len(self._window)
        self._ahead = min(2 * self._ahead, _PIECE_BYTES) if follows else _FIRST_AHEAD
        coming, self._next = self._next, None
        if coming is not None and coming[0] == start:
            data = coming[1].result()
        else:
            data = self._reader.fetch((start, self._end(start, max(wanted, self._ahead))))
        self._window, self._start = memoryview(data), start
        end = start + len(data)
        if follows and end < self._reader.size:
            self._next = end, self._reader.fetch_later((end, self._end(end, self._ahead)))

    def _end(self, start: int, length: int) -> int:
        return min(start + min(length, REQUEST_BYTES), self._reader.size)


def _cut(requests: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """The same bytes in requests of at most _PIECE_BYTES."""
    for first, last in requests:
        for start in range(first, last, _PIECE_BYTES):
            yield start, min(start + _PIECE_BYTES, last)


def _assemble(requests: Sequence[tuple[int, int]], fetched: Sequence[bytes], spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each span, of the ascending requests that hold them."""
    starts = [start for start, _ in requests]
    out = []
    for start, end in spans:
        pieces: list[bytes | memoryview] = []
        position, number = start, bisect.bisect_right(starts, start) - 1
        while position < end:
            first, last = requests[number]
            data, stop = fetched[number], min(end, last)
            pieces.append(data if (position, stop) == (first, last) else memoryview(data)[position - first : stop - first])
            position, number = stop, number + 1
        out.append(pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces))
    return out
