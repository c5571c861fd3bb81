"""Text as lines: compression, encodings, and whole lines of a file, however it is cut.

A line ends with a line feed, or with carriage return and line feed. Its place is the byte at which it begins in the text as
decompressed, and as UTF-8 where another encoding was named.
"""

from __future__ import annotations

import codecs
import lzma
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from shardwright.errors import InputError
from shardwright.sources.base import InputFile
from shardwright.sources.inputs import open_arrow, watched

UNIT_BYTES = 16 * 2**20
"""Plain files can be entered at the multiples of this."""
CHUNK_BYTES = 2 * 2**20
"""Read at once: small enough that lines which have to be looked at one by one have few neighbours."""
_HEAD_BYTES = 2**16
"""Read first: enough for the line that names the columns, which is looked at by itself."""
SHOWN_BYTES = 120
"""Of a line that can't be used, in messages."""
_WRONG_LINES = 100
"""Up to one line of so many at the beginning of a file may be in another encoding or hold zero bytes: bad lines, but text."""

_ZIP = b"PK\3\4"
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"\xfd7zXZ\0": "xz"}
_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".xz": "xz"}
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UTF8 = ("utf-8", "utf-8-sig", "ascii")


class TextOptions(BaseModel):
    """How the bytes of a file become lines: keys of ``[read.options]`` that all formats of lines have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: str = "utf-8"
    """Any that Python knows. A file in another one than UTF-8 is not cut."""
    max_line_bytes: int = Field(default=64 * 2**20, ge=1, le=2**30)
    """A longer line is rejected, and never held in memory."""

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str) -> str:
        try:
            "".encode(name)  # as text: what else codecs do is refused here
        except LookupError as error:
            raise ValueError(
                f"no encoding {name!r}; for instance utf-8, utf-16, latin-1, cp1252, gb18030, shift_jis"
            ) from error
        return codecs.lookup(name).name


@dataclass(frozen=True)
class Lines:
    """Consecutive lines: line i is ``text[starts[i]:stops[i]]``, without its end; `text` begins at the byte `offset`."""

    text: bytes
    offset: int
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Lines:
        """Lines in a text of their own."""
        sizes = np.fromiter(map(len, lines), np.int64, len(lines))
        stops = np.cumsum(sizes + 1) - 1
        return cls(b"\n".join(lines), 0, stops - sizes, stops)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        return (self.text[start:stop] for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True))

    def part(self, start: int, stop: int) -> Lines:
        """The lines [start, stop)."""
        return Lines(self.text, self.offset, self.starts[start:stop], self.stops[start:stop])

    def joined(self) -> bytes:
        """The bytes from the first line to the end of the last."""
        return self.text[self.starts[0] : self.stops[-1]] if len(self) else b""

    def places(self) -> pa.Array:
        """Where each line is, as the column `AT`: '@<byte>'."""
        return pc.binary_join_element_wise("", pc.cast(pa.array(self.starts + self.offset), pa.string()), "@")


@dataclass(frozen=True)
class BadLine:
    """A line that can't be taken, or held: where it is and why."""

    offset: int
    reason: str

    def places(self) -> pa.Array:
        """The one value of the column `AT`."""
        return pa.array([f"@{self.offset}"], pa.string())


class Splitter(Protocol):
    """Finds the lines, or the records that may have line ends inside, in a stream."""

    def __call__(self, stream: Stream, stop: float) -> Iterator[Lines | BadLine]:
        """What begins before the byte `stop`, to the end of it."""


class Stream:
    """Bytes of text in UTF-8; `offset` is the place of the next one."""

    def __init__(self, raw: Any, file: InputFile, encoding: str) -> None:
        self._raw = raw
        self._file = file
        self._decoder = None if encoding in _UTF8 else codecs.getincrementaldecoder(encoding)()
        self._encoding = encoding
        self._head = b""
        self.offset = 0
        self._skip_mark()

    def read(self, size: int) -> bytes:
        """About `size` bytes; none at the end. Raises InputError for a damaged file, or one in another encoding."""
        head, self._head = self._head, b""
        data = head or self._read(size)
        self.offset += len(data)
        return data

    def seek(self, offset: int) -> None:
        """Go to a byte of a plain file."""
        self._raw.seek(offset)
        self._head, self.offset = b"", offset

    def _read(self, size: int) -> bytes:
        try:
            while True:
                raw = self._raw.read(size)
                if self._decoder is None:
                    return bytes(raw)
                text = self._decoder.decode(raw, final=not raw)
                if text or not raw:
                    return text.encode()
        except UnicodeError as error:
            raise InputError(
                f"{self._file.path}: expected text in {self._encoding}, found bytes that are none ({error}); set "
                "read.options.encoding to the encoding of the file"
            ) from error
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise InputError(f"{self._file.path}: expected a whole compressed file, found damage ({error})") from error

    def _skip_mark(self) -> None:
        """A byte order mark at the beginning is no text."""
        self._head = self._read(min(_HEAD_BYTES, CHUNK_BYTES))
        for mark, name in _BOMS.items():
            if self._head.startswith(mark):
                raise InputError(
                    f"{self._file.path}: expected text in {self._encoding}, found a byte order mark of {name}; set "
                    f"read.options.encoding = {name!r}"
                )
        if self._head.startswith(codecs.BOM_UTF8):
            self._head = self._head[len(codecs.BOM_UTF8) :]
            self.offset = 0 if self._decoder else len(codecs.BOM_UTF8)


def read_text(file: InputFile, content: pa.Buffer, encoding: str) -> bytes:
    """The text of a file whose bytes are `content`. Raises InputError for a damaged one, or one in another encoding."""
    raw = pa.BufferReader(content)
    stream = Stream(_decompressed(raw, _compression(file, content[:6].to_pybytes())), file, encoding)
    return b"".join(iter(lambda: stream.read(CHUNK_BYTES), b""))


@contextmanager
def open_text(file: InputFile, encoding: str) -> Iterator[Stream]:
    """The text of a file, decompressed. Raises InputError where it can't be read, or changes before the context ends."""
    with watched(file), open_arrow(file) as raw:
        compression = _compression(file, raw.read(6))
        raw.seek(0)
        yield Stream(_decompressed(raw, compression), file, encoding)


def units_of(file: InputFile, encoding: str) -> Sequence[int]:
    """Bytes of the pieces that a file of lines can be read in."""
    if not file.bytes:
        return ()
    if encoding not in _UTF8:
        return (file.bytes,)
    with watched(file), open_arrow(file) as raw:
        if _compression(file, raw.read(6)):
            return (file.bytes,)
    full, rest = divmod(file.bytes, UNIT_BYTES)
    return (UNIT_BYTES,) * full + ((rest,) if rest else ())


def _compression(file: InputFile, head: bytes) -> str | None:
    """How a file is compressed, by its first bytes. Raises InputError for one whose name promises what it is not."""
    if head.startswith(_ZIP):
        raise InputError(
            f"{file.path}: expected text, plain or compressed by {', '.join(_SUFFIXES.values())}, found a zip archive; unpack "
            "it"
        )
    found = next((name for magic, name in _CODECS.items() if head.startswith(magic)), None)
    promised = next((name for suffix, name in _SUFFIXES.items() if file.name.lower().endswith(suffix)), None)
    if promised and head and found != promised:
        raise InputError(
            f"{file.path}: expected a file compressed with {promised}, as its name says, found one that begins with {head!r}"
        )
    return found


def _decompressed(raw: pa.NativeFile, compression: str | None) -> Any:
    if compression == "xz":
        return lzma.LZMAFile(raw)
    return pa.CompressedInputStream(raw, compression) if compression else raw


@dataclass(frozen=True)
class SplitLines:
    """A line is whatever ends with a line feed, or with the text. Empty ones are left out unless `empty`."""

    max_bytes: int
    empty: bool = False

    def __call__(self, stream: Stream, stop: float) -> Iterator[Lines | BadLine]:
        """The lines that begin before the byte `stop`."""
        at, pending, held = stream.offset, list[bytes](), 0
        skipping = False  # the rest of a line that is too long
        while at < stop and (data := stream.read(CHUNK_BYTES)):
            if skipping:
                end = data.find(b"\n") + 1
                at += end or len(data)
                if not end:
                    continue
                data, skipping = data[end:], False
            cut = data.rfind(b"\n") + 1
            if cut:
                text = b"".join((*pending, data[:cut]))
                yield from self._lines(_before(text, stop - at), at)
                at, pending, held = at + len(text), [], 0
            pending.append(data[cut:])
            held += len(pending[-1])
            if held > self.max_bytes + 1:  # it may yet end with a carriage return
                yield BadLine(at, too_long(b"".join(pending), self.max_bytes))
                at, pending, held, skipping = at + held, [], 0, True
        if at < stop and held:
            yield from self._lines(b"".join(pending), at)

    def _lines(self, text: bytes, offset: int) -> Iterator[Lines | BadLine]:
        starts, stops = _borders(text)
        filled = np.full(len(starts), True) if self.empty else stops > starts
        lines = Lines(text, offset, starts[filled], stops[filled])
        yield from cut_out(lines, self.max_bytes)


def cut_out(lines: Lines, max_bytes: int) -> Iterator[Lines | BadLine]:
    """The lines, with those above `max_bytes` as bad ones."""
    sizes = lines.stops - lines.starts
    begin = 0
    for number in np.flatnonzero(sizes > max_bytes).tolist():
        yield from _some(lines.part(begin, number))
        text = lines.part(number, number + 1).joined()
        yield BadLine(int(lines.offset + lines.starts[number]), too_long(text, max_bytes))
        begin = number + 1
    yield from _some(lines.part(begin, len(lines)))


def skip_to_line(stream: Stream, offset: int) -> None:
    """Go to the first line that begins at the byte `offset` of a plain file, or behind it."""
    stream.seek(offset - 1)
    while data := stream.read(2**16):
        end = data.find(b"\n") + 1
        if end:
            stream.seek(stream.offset - len(data) + end)
            return


def check_text(file: InputFile, pieces: Sequence[Lines]) -> None:
    """Raise InputError where lines from the beginning of a file are binary, or mostly in no UTF-8."""
    total = sum(len(lines) for lines in pieces)
    zeros = sum(b"\0" in line for lines in pieces if b"\0" in lines.joined() for line in lines)
    if zeros * _WRONG_LINES > total:
        raise InputError(
            f"{file.path}: expected text in UTF-8, found zero bytes; is it UTF-16 or UTF-32? then set read.options.encoding; "
            "or is it no text?"
        )
    wrong = [line for lines in pieces if not is_utf8(lines.joined()) for line in lines if not is_utf8(line)]
    if len(wrong) * _WRONG_LINES > total:
        raise InputError(
            f"{file.path}: expected text in UTF-8, found {wrong[0][:SHOWN_BYTES]!r}; set read.options.encoding, for instance "
            "to 'latin-1' or 'cp1252'"
        )


def is_utf8(text: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def show(text: bytes) -> str:
    """The beginning of a line, for messages."""
    more = "…" if len(text) > SHOWN_BYTES else ""
    return repr(text[:SHOWN_BYTES].decode(errors="backslashreplace")) + more


def too_long(text: bytes, limit: int) -> str:
    """The reason of a line that begins with `text`."""
    return f"expected a line of at most {limit} bytes (read.options.max_line_bytes), found a longer one: {show(text)}"


def _some(lines: Lines) -> Iterator[Lines]:
    if len(lines):
        yield lines


def _before(text: bytes, stop: float) -> bytes:
    """Whole lines: those that begin before byte `stop`."""
    return text if len(text) <= stop else text[: text.find(b"\n", int(stop) - 1) + 1]


def _borders(text: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    if not text.endswith(b"\n"):
        ends = np.append(ends, len(text))
    starts = np.concatenate([[0], ends[:-1] + 1])
    stops = ends - ((ends > starts) & (data[ends - 1] == ord("\r")))
    return starts, stops
