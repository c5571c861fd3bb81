"""MDS, the shards of MosaicML Streaming, version 2: the values in them, and how samples of ours become such files.

Format: https://github.com/mosaicml/streaming, streaming/base/format/mds (`MDSWriter`, `MDSReader`, `encodings`) and
https://docs.mosaicml.com/projects/streaming, "Dataset format". All numbers are little-endian::

    shard    uint32 number of samples n; n + 1 uint32 offsets: where in the file each sample begins, and the last ends;
             a JSON text with the columns; the samples
    sample   uint32 bytes of each value that has no fixed size, in the order of the columns; then all values

What an export writes; there are no nulls:

=================================================  ===========================================
field                                              encoding
=================================================  ===========================================
string, bytes                                      ``str``, ``bytes``
picture                                            ``jpeg``: the encoded picture, whatever it is
integers, float16, float32, float64                by their names
bool, timestamp (microseconds since 1970)          ``uint8``, ``int64``
array of one shape, of bool                        ``ndarray:float32:3,4``, ``ndarray:uint8:3,4``
array with dimensions that vary                    ``ndarray:float32``
=================================================  ===========================================
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import DecodeError, EncodeError, SchemaError
from shardwright.format.batch import each_sample
from shardwright.schema import FLOATS, INTEGERS, Field, Schema

VERSION = 2
INDEX = "index.json"
"""The file beside shards that lists them; without it there is no dataset."""

NUMBERS = {"int": "int64", **{name: name for name in (*INTEGERS, *FLOATS)}}
"""Encodings of one number, and its dtype."""
TEXTS = ("str", "json", "str_decimal")
PICTURES = ("jpeg", "png")
OPAQUE = ("pil", "jpeg_array", "jpegarray", "list[pil]", "list[jpeg]", "list[png]", "pkl")
"""Encodings of what no field holds. A pickle is never loaded."""
_NAMES = ("bytes", *NUMBERS, *TEXTS, *PICTURES, *OPAQUE, "str_int", "str_float")

_DTYPES = {
    8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32", 33: "int32", 34: "float32", 64: "uint64",
    65: "int64", 66: "float64",
}  # fmt: skip
"""The byte in front of an array whose encoding does not name a dtype."""
_SHAPE_DTYPES = ("u1", "<u2", "<u4", "<u8")
_ARRAY = re.compile(r"ndarray(:([a-z0-9]+)(:([0-9]+(,[0-9]+)*))?)?", re.ASCII)


@dataclass(frozen=True)
class Encoding:
    """How the values of a column are written; of arrays maybe their dtype, and maybe their shape too."""

    name: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Encoding:
        """The encoding of that name. Raises ValueError for one that there is not."""
        if text in _NAMES:
            return cls(text, NUMBERS.get(text))
        match = _ARRAY.fullmatch(text)
        if not match or (match[2] and match[2] not in _DTYPES.values()):
            raise ValueError(f"expected an encoding of MDS, found {text!r}; there are: {', '.join(_NAMES)}, ndarray")
        shape = tuple(int(size) for size in match[4].split(",")) if match[4] else None
        if shape and (0 in shape or math.prod(shape) >= 2**32):
            raise ValueError(f"expected an array of 1 to 2**32 values, found {text!r}")
        return cls("ndarray", match[2], shape)

    @classmethod
    def of(cls, field: Field) -> Encoding:
        """The encoding that an export gives a field."""
        if field.is_image:
            return cls("jpeg")
        dtype = {"bool": "uint8", "timestamp": "int64"}.get(field.dtype, field.dtype)
        if field.shape:
            fixed = None not in field.shape
            return cls("ndarray", dtype, tuple(size or 0 for size in field.shape) if fixed else None)
        return cls("str") if dtype == "string" else cls(dtype, NUMBERS.get(dtype))

    def __str__(self) -> str:
        if self.name != "ndarray":
            return self.name
        shape = ",".join(map(str, self.shape or ()))
        return ":".join(part for part in (self.name, self.dtype, shape) if part)

    @property
    def size(self) -> int | None:
        """The bytes of each value, where they are the same for all."""
        if self.dtype is None or (self.name == "ndarray" and self.shape is None):
            return None
        return math.prod(self.shape or ()) * np.dtype(self.dtype).itemsize

    def decode_array(self, data: bytes) -> npt.NDArray[Any]:
        """The array in a value of `ndarray`. Raises DecodeError for what is none."""
        try:
            dtype, start = (self.dtype, 0) if self.dtype else (_DTYPES[data[0]], 1)
            shape = self.shape
            if shape is None:
                dimensions, width = data[start] >> 2, 1 << (data[start] & 3)
                stop = start + 1 + dimensions * width
                sizes = np.frombuffer(data[start + 1 : stop], _SHAPE_DTYPES[data[start] & 3], dimensions)
                shape, start = tuple(sizes.tolist()), stop
            return np.frombuffer(data[start:], np.dtype(dtype).newbyteorder("<")).reshape(shape)
        except (IndexError, KeyError, ValueError, OverflowError) as error:
            raise DecodeError(
                f"no array of encoding {self}: {len(data)} bytes that begin with {data[:8]!r} ({error})"
            ) from error


def columns_of(schema: Schema) -> dict[str, Encoding]:
    """The columns of exported shards, in the order in which their values lie. Raises SchemaError for fields that can't be."""
    nullable = [field.name for field in schema if field.nullable]
    if nullable:
        raise SchemaError(
            f"MDS has no nulls, and these fields may be null: {', '.join(nullable)}; leave them out by --columns, or export "
            "another format"
        )
    return {name: Encoding.of(schema[name]) for name in sorted(schema.names)}


def encode_samples(schema: Schema, batch: Mapping[str, npt.NDArray[Any]]) -> Iterator[bytes]:
    """Each sample as it stands in a shard; the same bytes for the same values.

    `batch` is what `Dataset.take` gives, but for pictures, which are object arrays of their encoded bytes.
    """
    columns = columns_of(schema)
    for sample in each_sample(schema, batch):
        values = {field.name: _encode(field, columns[field.name], value) for field, value in sample}
        sizes = [len(values[name]) for name, encoding in columns.items() if encoding.size is None]
        yield b"".join((struct.pack(f"<{len(sizes)}I", *sizes), *(values[name] for name in columns)))


def describe_columns(columns: Mapping[str, Encoding]) -> dict[str, Any]:
    """What the index says of the columns of a shard, and the shard itself."""
    return {
        "version": VERSION, "format": "mds", "column_names": [*columns],
        "column_encodings": [str(encoding) for encoding in columns.values()],
        "column_sizes": [encoding.size for encoding in columns.values()],
    }  # fmt: skip


def encode_shard(samples: Sequence[bytes], columns: Mapping[str, Encoding]) -> bytes:
    """A shard of these samples. Raises EncodeError for 4 GiB and more."""
    text = json.dumps(describe_columns(columns), sort_keys=True).encode()
    offsets = np.cumsum([4 * (len(samples) + 2) + len(text), *map(len, samples)], dtype=np.int64)
    if offsets[-1] >= 2**32:
        raise EncodeError(f"expected less than 4 GiB in a shard of MDS, found {offsets[-1]} bytes in {len(samples)} samples")
    return b"".join((struct.pack("<I", len(samples)), offsets.astype("<u4").tobytes(), text, *samples))


def _encode(field: Field, encoding: Encoding, value: Any) -> bytes:
    if field.is_image or field.dtype == "bytes":
        return bytes(value)
    if field.dtype == "string":
        return str(value).encode()
    dtype = np.dtype(encoding.dtype).newbyteorder("<")
    array = np.ascontiguousarray(value).view("u1") if field.dtype == "bool" else np.ascontiguousarray(value)
    data = (array.view("i8") if field.dtype == "timestamp" else array).astype(dtype, copy=False).tobytes()
    return _shape(array.shape) + data if field.shape and encoding.shape is None else data


def _shape(shape: tuple[int, ...]) -> bytes:
    """The shape in front of an array: its dimensions and, in the lower bits, the width of each size."""
    code = next(code for code in range(4) if max(shape) < 1 << (8 << code))
    return bytes([len(shape) << 2 | code]) + np.array(shape, _SHAPE_DTYPES[code]).tobytes()
