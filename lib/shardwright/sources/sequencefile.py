"""Hadoop SequenceFiles, plain, record- and block-compressed; cut at their sync markers.

Format: https://hadoop.apache.org/docs/stable/api/org/apache/hadoop/io/SequenceFile.html; numbers of variable length as
org.apache.hadoop.io.WritableUtils has them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from shardwright.errors import InputError
from shardwright.sources.base import AT, BATCH_BYTES, REJECT, InputFile, Reader
from shardwright.sources.hadoop_codecs import CODECS
from shardwright.sources.inputs import damaged, open_input
from shardwright.sources.sync_markers import MARKER_BYTES, find_marker, piece_sizes

_IO = "org.apache.hadoop.io."
_NUMBERS = {
    "BooleanWritable": "?", "ByteWritable": "b", "ShortWritable": "h", "IntWritable": "i", "LongWritable": "q",
    "FloatWritable": "f", "DoubleWritable": "d",
}  # fmt: skip
_TYPES = {
    "BooleanWritable": pa.bool_(), "ByteWritable": pa.int8(), "ShortWritable": pa.int16(), "IntWritable": pa.int32(),
    "LongWritable": pa.int64(), "FloatWritable": pa.float32(), "DoubleWritable": pa.float64(),
    "Text": pa.string(), "BytesWritable": pa.binary(), "NullWritable": None,
}  # fmt: skip
_ESCAPE = -1
"""Where a record's length would be, says that a sync marker follows."""
_DAMAGE = (ValueError, EOFError, OSError, OverflowError, MemoryError, zlib.error, pa.ArrowException)

_Record = tuple[str, bytes, bytes]
"""Where it is, its key and its value."""


@dataclass(frozen=True)
class _Header:
    key: str
    value: str
    """Names of Writables without their package."""
    in_blocks: bool
    decompress: Callable[[bytes], bytes] | None
    marker: bytes
    end: int

    @property
    def types(self) -> pa.Schema:
        both = {"key": _TYPES[self.key], "value": _TYPES[self.value]}
        return pa.schema([(name, kind) for name, kind in both.items() if kind is not None])


class SequenceFileReader(Reader):
    """Keys and values of SequenceFiles, as the columns `key` and `value`; a NullWritable is no column."""

    def schema(self, file: InputFile) -> pa.Schema:
        """What the header says."""
        with open_input(file) as stream:
            return _header(file, stream).types

    def units(self, file: InputFile) -> Sequence[int]:
        """Stretches of the file; a record belongs to the one in which the sync marker before it begins."""
        return piece_sizes(file.bytes)

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The records of some stretches. Raises InputError for a damaged file."""
        with open_input(file) as stream:
            header = _header(file, stream)
            records: list[_Record] = []
            size = 0
            try:
                for record in _records(stream, file.bytes, units, header):
                    records.append(record)
                    size += len(record[1]) + len(record[2])
                    if size >= BATCH_BYTES:
                        yield _batch(records, header, columns)
                        records, size = [], 0
            except _DAMAGE as error:
                raise damaged(file, "a SequenceFile", error) from error
        if records:
            yield _batch(records, header, columns)


def _records(stream: BinaryIO, size: int, units: range, header: _Header) -> Iterator[_Record]:
    sizes = piece_sizes(size)
    start, stop = sum(sizes[: units.start]), sum(sizes[: units.stop])
    if start < header.end - MARKER_BYTES:
        stream.seek(header.end)
    elif find_marker(stream, start, stop, header.marker) is None:
        return
    elif header.in_blocks:
        yield from _block(stream, size, header)
    while (offset := stream.tell()) < size:
        length = _int(stream)
        if length == _ESCAPE:
            if stream.read(MARKER_BYTES) != header.marker:
                raise ValueError(f"no sync marker at byte {offset}")
            if stream.tell() - MARKER_BYTES >= stop:
                return
            if header.in_blocks:
                yield from _block(stream, size, header)
            continue
        if header.in_blocks:
            raise ValueError(f"no sync marker before the block at byte {offset}")
        key_length = _int(stream)
        if not 0 <= key_length <= length:
            raise ValueError(f"the record at byte {offset} is said to have {length} bytes, {key_length} of them its key")
        key = _take(stream, key_length, size)
        value = _take(stream, length - key_length, size)
        yield f"@{offset}", key, header.decompress(value) if header.decompress else value


def _block(stream: BinaryIO, size: int, header: _Header) -> Iterator[_Record]:
    """The records of a block: their number, then four compressed buffers: lengths of keys, keys, lengths of values, values."""
    offset = stream.tell()
    count = _vint_of(stream)
    assert header.decompress is not None
    buffers = [header.decompress(_take(stream, _vint_of(stream), size)) for _ in range(4)]
    keys, values = (_split(lengths, data, count) for lengths, data in (buffers[:2], buffers[2:]))
    for number, (key, value) in enumerate(zip(keys, values, strict=True)):
        yield f"@{offset}:{number}", key, value


def _split(lengths: bytes, data: bytes, count: int) -> Iterator[bytes]:
    at = start = 0
    for _ in range(count):
        length, at = vint(lengths, at)
        if not 0 <= length <= len(data) - start:
            raise ValueError(f"a block is said to hold {length} bytes more where it has {len(data) - start}")
        yield data[start : start + length]
        start += length


def _batch(records: Sequence[_Record], header: _Header, columns: Sequence[str]) -> pa.RecordBatch:
    reasons: list[str | None] = [None] * len(records)
    arrays = {}
    places, keys, values = zip(*records, strict=True)
    for name, kind, written in (("key", header.key, keys), ("value", header.value, values)):
        if name in columns:
            arrays[name] = _column(written, name, kind, reasons)
    arrays[AT] = pa.array(places, pa.string())
    arrays[REJECT] = pa.array(reasons, pa.string())
    return pa.RecordBatch.from_pydict(arrays)


def _column(values: Sequence[bytes], name: str, kind: str, reasons: list[str | None]) -> pa.Array:
    """Serialised Writables of one kind as an array; what is none becomes null, and its reason is noted."""
    parse = {"Text": _text, "BytesWritable": _bytes}.get(kind) or _number_of(_NUMBERS[kind])
    out = []
    for row, data in enumerate(values):
        try:
            out.append(parse(data))
        except ValueError as error:
            reasons[row] = reasons[row] or f"{name}: no {kind} ({error})"
            out.append(None)
    return pa.array(out, _TYPES[kind])


def _number_of(code: str) -> Callable[[bytes], Any]:
    number = struct.Struct(f">{code}")

    def parse(data: bytes) -> Any:
        if len(data) != number.size:
            raise ValueError(f"{len(data)} bytes in place of {number.size}")
        return number.unpack(data)[0]

    return parse


def _text(data: bytes) -> str:
    length, start = vint(data, 0)
    if length != len(data) - start:
        raise ValueError(f"{len(data) - start} bytes in place of {length}")
    return data[start:].decode()


def _bytes(data: bytes) -> bytes:
    if len(data) < 4 or int.from_bytes(data[:4], "big") != len(data) - 4:
        raise ValueError(f"{len(data)} bytes that begin with {data[:4]!r}, which should be their number less 4")
    return data[4:]


def _header(file: InputFile, stream: BinaryIO) -> _Header:
    """What the header says; the stream is put behind it. Raises InputError for no SequenceFile, and for classes not known."""
    try:
        magic = stream.read(4)
        if magic[:3] != b"SEQ":
            raise ValueError(f"it begins with {magic!r}")
        if magic[3:] != b"\x06":
            raise ValueError(f"version {magic[3:]!r}; Hadoop has written version 6 since 2008")
        key, value = (_class(stream, file, name) for name in ("key", "value"))
        compressed, in_blocks = (_take(stream, 1, file.bytes) != b"\0" for _ in range(2))
        codec = _string(stream, file.bytes) if compressed else None
        for _ in range(2 * _int(stream)):
            _string(stream, file.bytes)
        marker = _take(stream, MARKER_BYTES, file.bytes)
    except _DAMAGE as error:
        raise damaged(file, "a SequenceFile", error) from error
    if codec is not None and codec not in CODECS:
        raise InputError(f"{file.path}: a SequenceFile of codec {codec}; can be read: {', '.join(CODECS)}")
    if key == value == "NullWritable":
        raise InputError(f"{file.path}: expected keys or values, found a SequenceFile of NullWritable alone")
    return _Header(key, value, in_blocks, CODECS[codec] if codec else None, marker, stream.tell())


def _class(stream: BinaryIO, file: InputFile, name: str) -> str:
    found = _string(stream, file.bytes)
    short = found.removeprefix(_IO)
    if short not in _TYPES or found == short:
        known = ", ".join(_TYPES)
        raise InputError(f"{file.path}: a SequenceFile whose {name}s are {found}; can be read, of {_IO[:-1]}: {known}")
    return short


def _string(stream: BinaryIO, size: int) -> str:
    return _take(stream, _vint_of(stream), size).decode()


def _take(stream: BinaryIO, length: int, size: int) -> bytes:
    """`length` bytes of a file of `size` bytes: looked at before memory is reserved for them."""
    if not 0 <= length <= size - stream.tell():
        raise EOFError(f"expected {length} bytes from byte {stream.tell()} on, the file has {size - stream.tell()}")
    return stream.read(length)


def _int(stream: BinaryIO) -> int:
    data = stream.read(4)
    if len(data) < 4:
        raise EOFError(f"cut short at byte {stream.tell()}")
    (value,) = struct.unpack(">i", data)
    return int(value)


def _vint_of(stream: BinaryIO) -> int:
    data = stream.read(1)
    if data and (more := _vint_bytes(data[0])):
        data += stream.read(more)
    return vint(data, 0)[0]


def vint(data: bytes, at: int) -> tuple[int, int]:
    """The number of variable length at `at`, and where it ends. Raises EOFError where the data ends before."""
    if at >= len(data) or at + _vint_bytes(data[at]) >= len(data):
        raise EOFError("cut short in the middle of a number")
    more = _vint_bytes(data[at])
    first = data[at] - 256 if data[at] > 127 else data[at]
    if not more:
        return first, at + 1
    value = int.from_bytes(data[at + 1 : at + 1 + more], "big")
    return (~value if first < -120 else value), at + 1 + more


def _vint_bytes(first: int) -> int:
    """How many bytes follow the first."""
    signed = first - 256 if first > 127 else first
    return 0 if signed >= -112 else -120 - signed if signed < -120 else -112 - signed
