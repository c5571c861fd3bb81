"""The members of a tar file, plain or compressed, one after the other. None of them becomes a file, and no header is trusted.

Format: POSIX.1-2008, pax, "ustar Interchange Format"; GNU's long names too. `tarfile` reads the headers.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

from shardwright.format.pieces import read_exactly
from shardwright.sources.base import MAX_VALUE_BYTES, InputFile
from shardwright.sources.inputs import damaged, open_input

_MAX_HEADER_BYTES = 2**20
"""Of a long name, or of the attributes of a member."""
_PIECE = 2**20
_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
_CONFUSED = (ValueError, OverflowError, RecursionError, KeyError, IndexError, AttributeError)
"""What hostile headers make of `tarfile`."""
_COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


@dataclass(frozen=True)
class Member:
    """A member, to be read before the next one is asked for."""

    name: str
    """As UTF-8; other bytes as '\\xff'."""
    size: int
    problem: str | None
    """Why it has no content that can be read: it is a link, for instance."""
    _stream: BinaryIO
    _offset: int

    def read(self, most: int | None = None) -> bytes:
        """The content, or its first `most` bytes. Raises EOFError where the file ends before."""
        wanted = self.size if most is None else min(most, self.size)
        self._stream.seek(self._offset)
        data = read_exactly(self._stream, wanted)
        if len(data) < wanted:
            raise EOFError(f"{self.name!r} is cut short: expected {wanted} bytes, found {len(data)}")
        return data


@contextmanager
def open_tar(file: InputFile) -> Iterator[Iterator[Member]]:
    """The members of a tar file but for folders. Raises InputError where it is none, or damaged, while they are read."""
    try:
        with open_input(file) as raw:
            head = raw.read(6)
            raw.seek(0)
            opener = next((kind for magic, kind in _COMPRESSIONS.items() if head.startswith(magic)), None)
            yield _members(opener(raw) if opener else raw)
    except _DAMAGE as error:
        raise damaged(file, "a tar file", error) from error


class _Headers:
    """The stream as `tarfile` sees it, which takes a header's size from the file and reads that much at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"expected a header of at most {_MAX_HEADER_BYTES} bytes, found one of {size}")
        return self._stream.read(size)


def _members(stream: BinaryIO) -> Iterator[Member]:
    archive = _open(stream)
    end = 0
    while info := _next(archive):
        if info.size < 0 or info.offset_data < end:
            raise tarfile.ReadError(f"the member at byte {info.offset} lies about its size: {info.size}")
        end = info.offset_data
        if not info.isdir():
            name = info.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
            yield Member(name, info.size, _problem(info), stream, info.offset_data)
        archive.members = []  # type: ignore[attr-defined] # it would remember them all
        archive.pax_headers = {}
    _check_end(stream, archive.offset)


def _open(stream: BinaryIO) -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=cast(IO[bytes], _Headers(stream)), encoding="utf-8", errors="surrogateescape")
    except _CONFUSED as error:
        raise tarfile.ReadError(f"a header that can't be: {error}") from error


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except _CONFUSED as error:
        raise tarfile.ReadError(f"a header that can't be: {error}") from error


def _problem(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return f"a {'symbolic' if info.issym() else 'hard'} link, which is not followed; store the file itself"
    if info.issparse():
        return "a sparse file, which is not expanded; store it as it is (tar without --sparse)"
    if not info.isreg():
        return "a device or pipe, which has no content"
    return f"expected at most {MAX_VALUE_BYTES} bytes, found {info.size}" if info.size > MAX_VALUE_BYTES else None


def _check_end(stream: BinaryIO, offset: int) -> None:
    """`tarfile` takes whatever is no header for the end: see that nothing is missing, and that nothing follows."""
    stream.seek(offset)
    block = read_exactly(stream, tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        what = f"found {block[:8]!r}" if block else "found the end of the file: it is cut short"
        raise tarfile.ReadError(f"byte {offset}: expected a member, or the zeros that end a tar file, {what}")
    while data := stream.read(_PIECE):
        if data.count(0) < len(data):
            raise tarfile.ReadError(
                f"expected nothing behind its end at byte {offset}, found more; one tar file behind another?"
            )
