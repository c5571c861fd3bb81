"""Avro object container files; cut between blocks, at their sync markers.

Format: https://avro.apache.org/docs/1.12.0/specification/. The container is read here, so that large files can be cut and
all its codecs work; records are decoded by fastavro, the [avro] extra.
"""

from __future__ import annotations

import bz2
import functools
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, BinaryIO

import pyarrow as pa

from shardwright.errors import MissingDependencyError
from shardwright.sources.base import AT, BATCH_BYTES, REJECT, InputFile, Reader
from shardwright.sources.hadoop_codecs import snappy_size, zstandard
from shardwright.sources.inputs import damaged, open_input
from shardwright.sources.sync_markers import MARKER_BYTES, find_marker, piece_sizes

_HEADER = {
    "type": "record",
    "name": "header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": MARKER_BYTES}},
    ],
}
_MAGIC = b"Obj\x01"

_TYPES: dict[str, pa.DataType] = {
    "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "string": pa.string(), "bytes": pa.binary(), "fixed": pa.binary(), "enum": pa.string(),
}  # fmt: skip
_NO_FIELD = pa.struct([])
"""Stands for what can't be a field: records, maps, unions of several types, arrays of anything but numbers."""
_LOGICAL: dict[str, pa.DataType] = {
    "timestamp-millis": pa.timestamp("ms", "UTC"), "timestamp-micros": pa.timestamp("us", "UTC"),
    "timestamp-nanos": pa.timestamp("ns", "UTC"), "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"), "local-timestamp-nanos": pa.timestamp("ns"), "date": pa.date32(),
    "duration": _NO_FIELD,
}  # fmt: skip
"""Any other logical type is read as what it is stored as."""
_DECIMAL128, _MAX_PRECISION = 38, 76
"""Digits of Arrow's decimals."""
_DIGITS = Context(prec=_MAX_PRECISION)


def _snappy(data: bytes) -> bytes:
    out: bytes = pa.Codec("snappy").decompress(data[:-4], snappy_size(data), asbytes=True)
    if zlib.crc32(out) != int.from_bytes(data[-4:], "big"):
        raise ValueError("a block has another checksum")
    return out


_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes, "deflate": lambda data: zlib.decompress(data, -15), "snappy": _snappy, "bzip2": bz2.decompress,
    "xz": lzma.decompress, "zstandard": zstandard,
}  # fmt: skip


@dataclass(frozen=True)
class _Container:
    """What the header of a file says."""

    schema: dict[str, Any]
    """Of the record, without logical types: numbers stay numbers."""
    types: pa.Schema
    codec: str
    marker: bytes
    start: int
    """Where the first block begins."""


class AvroReader(Reader):
    """Rows of Avro files whose schema is a record."""

    def schema(self, file: InputFile) -> pa.Schema:
        """The fields of the record that the header describes."""
        with open_input(file) as stream:
            return _container(file, stream).types

    def units(self, file: InputFile) -> Sequence[int]:
        """Stretches of the file; a block belongs to the one in which the marker before it begins."""
        return piece_sizes(file.bytes)

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of the blocks in some stretches. Raises InputError for a damaged file."""
        with open_input(file) as stream:
            container = _container(file, stream)
            kept = pa.schema([container.types.field(name) for name in columns])
            rows: list[dict[str, Any]] = []
            said: list[tuple[str, str | None]] = []
            size = 0
            try:
                for offset, count, data in _blocks(stream, file.bytes, units, container):
                    for number, (row, reason) in enumerate(_decode(container, data, count)):
                        rows.append(row)
                        said.append((f"@{offset}:{number}", reason))
                    size += len(data)
                    if size >= BATCH_BYTES:
                        yield _batch(rows, said, kept)
                        rows, said, size = [], [], 0
            except _DAMAGE as error:
                raise damaged(file, "an Avro file", error) from error
        if rows:
            yield _batch(rows, said, kept)


_DAMAGE = (
    ValueError, EOFError, LookupError, TypeError, OverflowError, OSError, MemoryError, zlib.error, lzma.LZMAError,
    pa.ArrowException,
)  # fmt: skip
"""What the decoders make of bytes that are not what they should be."""


def _blocks(stream: BinaryIO, size: int, units: range, container: _Container) -> Iterator[tuple[int, int, bytes]]:
    """Offset, number of records and bytes of each block of some stretches."""
    sizes = piece_sizes(size)
    start, stop = sum(sizes[: units.start]), sum(sizes[: units.stop])
    if start < container.start - MARKER_BYTES:
        stream.seek(container.start)
    elif find_marker(stream, start, stop, container.marker) is None:
        return
    while (offset := stream.tell()) - MARKER_BYTES < stop and offset < size:
        count, length = _long(stream), _long(stream)
        if count < 0 or not 0 <= length <= size - stream.tell() - MARKER_BYTES:
            raise ValueError(f"the block at byte {offset} says that it holds {length} bytes, the file ends before")
        data = stream.read(length)
        if stream.read(MARKER_BYTES) != container.marker:
            raise ValueError(f"no sync marker after the block at byte {offset}")
        yield offset, count, _CODECS[container.codec](data)


def _decode(container: _Container, data: bytes, count: int) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The records of a block, each with what is wrong with it."""
    fastavro = _fastavro()
    stream = io.BytesIO(data)
    for _ in range(count):
        start = stream.tell()
        try:
            yield fastavro.schemaless_reader(stream, container.schema, None), None
        except UnicodeDecodeError:
            stream.seek(start)
            row = fastavro.schemaless_reader(stream, container.schema, None, handle_unicode_errors="replace")
            yield row, "a string that is no UTF-8"
    if stream.tell() != len(data):
        raise ValueError(f"a block of {count} records has {len(data) - stream.tell()} bytes more than they need")


def _batch(rows: Sequence[dict[str, Any]], said: Sequence[tuple[str, str | None]], kept: pa.Schema) -> pa.RecordBatch:
    arrays = {field.name: _array([row[field.name] for row in rows], field.type) for field in kept}
    arrays[AT] = pa.array([at for at, _ in said], pa.string())
    arrays[REJECT] = pa.array([reason for _, reason in said], pa.string())
    return pa.RecordBatch.from_pydict(arrays)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else _decimal(value, kind.scale) for value in values], kind)
    return pa.array(values, pa.int32()).cast(kind) if pa.types.is_date(kind) else pa.array(values, kind)


def _decimal(data: bytes, scale: int) -> Decimal:
    """A big-endian whole number in two's complement, in units of 10 ** -scale."""
    return Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-scale, _DIGITS)


def _container(file: InputFile, stream: BinaryIO) -> _Container:
    """What the header says; the stream is put behind it. Raises InputError for what is no Avro file of records."""
    fastavro = _fastavro()
    try:
        header = fastavro.schemaless_reader(stream, fastavro.parse_schema(_HEADER), None)
        if header["magic"] != _MAGIC:
            raise ValueError(f"it begins with {header['magic']!r}")
        described = json.loads(header["meta"]["avro.schema"])
        codec = header["meta"].get("avro.codec", b"null").decode()
        if codec not in _CODECS:
            raise ValueError(f"codec {codec!r}; known: {', '.join(_CODECS)}")
        if not isinstance(described, dict) or described.get("type") != "record":
            raise ValueError("its schema is no record")
        names: dict[str, pa.DataType] = {}
        full = fastavro.parse_schema(described)  # in which all names are full ones
        types = pa.schema([(field["name"], _arrow_type(field["type"], names)) for field in full["fields"]])
        schema = fastavro.parse_schema(_without_logical_types(described))
        return _Container(schema, types, codec, header["sync"], stream.tell())
    except (*_DAMAGE, fastavro.schema.SchemaParseException) as error:
        raise damaged(file, "an Avro file", error) from error


def _arrow_type(described: Any, names: dict[str, pa.DataType]) -> pa.DataType:
    """The Arrow type of a field; `names` holds the named types that were described before."""
    if isinstance(described, list):
        kinds = [_arrow_type(one, names) for one in described if one != "null"]
        return kinds[0] if len(kinds) == 1 else _NO_FIELD
    if isinstance(described, str):
        return _TYPES.get(described, names.get(described, _NO_FIELD))
    kind = described["type"]
    if isinstance(kind, dict | list):
        return _arrow_type(kind, names)
    if kind == "array":
        inner = _arrow_type(described["items"], names)
        number = pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
        return pa.list_(inner) if number else _NO_FIELD
    if described.get("logicalType") == "decimal" and kind in ("bytes", "fixed"):
        found = _decimal_type(described)
    else:
        found = _LOGICAL.get(described.get("logicalType", ""), _TYPES.get(kind, names.get(kind, _NO_FIELD)))
    if "name" in described:
        names[described["name"]] = found
    return found


def _decimal_type(described: Mapping[str, Any]) -> pa.DataType:
    precision, scale = described.get("precision", 0), described.get("scale", 0)
    if not 0 < precision <= _MAX_PRECISION:
        return _NO_FIELD
    return pa.decimal128(precision, scale) if precision <= _DECIMAL128 else pa.decimal256(precision, scale)


def _without_logical_types(described: Any) -> Any:
    if isinstance(described, list):
        return [_without_logical_types(one) for one in described]
    if isinstance(described, dict):
        return {key: _without_logical_types(value) for key, value in described.items() if key != "logicalType"}
    return described


def _long(stream: BinaryIO) -> int:
    """A number as Avro writes it: seven bits a byte, the lowest first, zigzag."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise EOFError("the file ends in the middle of a block")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
    return (value >> 1) ^ -(value & 1)


@functools.cache
def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError as error:
        raise MissingDependencyError("Avro files need fastavro: pip install 'shardwright[avro]'") from error
    return fastavro
