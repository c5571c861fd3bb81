"""TFRecord files of `tf.train.Example`: framing, and how the values of each field become features and come back.

Formats: https://www.tensorflow.org/tutorials/load_data/tfrecord (framing, masked CRC-32C) and
tensorflow/core/example/{example,feature}.proto. The messages are described here to a descriptor pool of our own: a process
that has imported TensorFlow refuses a second registration of its names.

===================================================  ==================================================
field                                                feature
===================================================  ==================================================
string, bytes, picture                               bytes: the UTF-8, the bytes, the encoded picture
float16, float32                                     float, the elements in C order
bool, integers, timestamp (microseconds since 1970)  int64, the elements in C order
float64, uint64, arrays of uint8                     bytes: the elements, C order, little-endian
array with a varying dimension other than the first  bytes: a `numpy.save` cell
null                                                 no such feature
===================================================  ==================================================
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.codecs import encode_npy
from shardwright.errors import InputError, MissingDependencyError
from shardwright.format.batch import each_sample
from shardwright.format.pieces import read_exactly
from shardwright.schema import Field, Schema

Kind = Literal["bytes", "float", "int64"]

_DECLARED = re.compile(r"(bytes|float|int64)(\[([1-9][0-9]*)?\])?")
_DTYPES: dict[str, np.dtype[Any]] = {"float": np.dtype(np.float32), "int64": np.dtype(np.int64)}


@dataclass(frozen=True)
class Feature:
    """How one feature becomes an Arrow column."""

    kind: Kind
    arrow_type: pa.DataType
    raw: str | None = None
    """The NumPy dtype of the elements that lie in a bytes feature, where they are to be taken out."""

    @classmethod
    def of(cls, field: Field) -> Feature:
        """What `encode_examples` makes of a field."""
        kind, raw = _stored(field)
        leaf = pa.from_numpy_dtype(field.numpy_dtype) if raw else _LEAVES[kind]
        if not field.shape:
            leaf = pa.timestamp("us") if field.dtype == "timestamp" else leaf
            return cls(kind, leaf, field.numpy_dtype.str if raw else None)
        if None not in field.shape:
            return cls(kind, pa.binary() if kind == "bytes" else pa.list_(leaf, _total(field.shape)))
        if kind == "bytes" and not raw:
            return cls(kind, pa.binary())
        for size in field.shape[:0:-1]:
            leaf = pa.list_(leaf, size)
        return cls(kind, pa.list_(leaf), field.numpy_dtype.str if raw else None)

    @classmethod
    def parse(cls, text: str) -> Feature:
        """The feature that a user declares: 'int64', 'float[3]' (always three), 'int64[]' (any number), 'bytes'.

        Raises ValueError for another text.
        """
        match = _DECLARED.fullmatch(text)
        if not match:
            raise ValueError(
                f"expected 'bytes', 'float' or 'int64', or with the number of values 'float[3]', 'int64[]', found {text!r}"
            )
        kind = next(kind for kind in _LEAVES if kind == match[1])
        return cls.listed(kind, 1 if not match[2] else int(match[3]) if match[3] else None, scalar=not match[2])

    @classmethod
    def listed(cls, kind: Kind, length: int | None, *, scalar: bool) -> Feature:
        """A feature of `length` values, None for any number; one of them is a scalar or a list."""
        leaf = _LEAVES[kind]
        if scalar:
            return cls(kind, leaf)
        return cls(kind, pa.list_(leaf) if length is None else pa.list_(leaf, length))


_LEAVES: dict[Kind, pa.DataType] = {"bytes": pa.binary(), "float": pa.float32(), "int64": pa.int64()}


def frame(record: bytes) -> bytes:
    """A record as it stands in a file: length, its masked CRC-32C, data, its masked CRC-32C."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def starts_frame(head: bytes) -> bool:
    """Whether 12 bytes are a length and its checksum."""
    return _masked_crc(head[:8]) == head[8:]


def read_frames(file: BinaryIO, where: str) -> Iterator[bytes]:
    """The records of an (uncompressed) stream. Raises InputError naming `where` for damage, or for a file of another kind."""
    number = 0
    while head := file.read(12):
        if len(head) < 12:
            raise InputError(
                f"{where}: record {number} is cut short: expected a TFRecord header of 12 bytes, found {len(head)}"
            )
        if not starts_frame(head):
            what = "expected a TFRecord file, found one whose" if not number else f"record {number} is damaged: the"
            raise InputError(f"{where}: {what} header has another checksum than its length (it begins with {head!r})")
        (length,) = struct.unpack("<Q", head[:8])
        record = read_exactly(file, length)
        tail = file.read(4)
        if len(record) < length or len(tail) < 4:
            found = len(record) + len(tail)
            raise InputError(
                f"{where}: record {number} is cut short: expected {length + 4} bytes after its header, found {found}"
            )
        if _masked_crc(record) != tail:
            raise InputError(f"{where}: record {number} is damaged: its {length} bytes have another checksum")
        yield record
        number += 1


def encode_examples(schema: Schema, batch: Mapping[str, npt.NDArray[Any]]) -> Iterator[bytes]:
    """Each sample as a serialised `tf.train.Example`; the same bytes for the same values.

    `batch` is what `Dataset.take` gives (with `<name>_mask` for nullable numbers and arrays), but for pictures, which are
    object arrays of their encoded bytes.
    """
    make = example_type()
    for sample in each_sample(schema, batch):
        example = make()
        for field, value in sample:
            _put(example.features.feature[field.name], field, value)
        yield example.SerializeToString(deterministic=True)


def decode_examples(
    records: Sequence[bytes], features: Mapping[str, Feature], *, known: frozenset[str] | None = None
) -> tuple[dict[str, pa.Array], list[str | None]]:
    """The columns of serialised examples, and for each example why it is a bad one, or None.

    A missing feature is null. With `known`, an example with any other feature is a bad one.
    """
    examples, reasons = [], []
    for record in records:
        example, reason = _parse(record)
        if known is not None and not reason and (more := sorted(example.features.feature.keys() - known)):
            reason = f"a feature {more[0]!r} that the first records do not have; declare it by the option `features`"
        examples.append(example.features.feature)
        reasons.append(reason)
    return {name: _column(examples, name, feature, reasons) for name, feature in features.items()}, reasons


@functools.cache
def example_type() -> Any:
    """The message class `tf.train.Example`. Raises MissingDependencyError without protobuf."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise _missing("protobuf") from error
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    lists = (("bytes_list", "BytesList", kinds.TYPE_BYTES), ("float_list", "FloatList", kinds.TYPE_FLOAT),
             ("int64_list", "Int64List", kinds.TYPE_INT64))  # fmt: skip
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, message, kind) in enumerate(lists, 1):
        file.message_type.add(name=message).field.add(name="value", number=1, label=many, type=kind)
        of = f".tensorflow.{message}"
        feature.field.add(name=name, number=number, label=one, type=kinds.TYPE_MESSAGE, type_name=of, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=kinds.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=kinds.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    of = ".tensorflow.Features.FeatureEntry"
    features.field.add(name="feature", number=1, label=many, type=kinds.TYPE_MESSAGE, type_name=of)
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=one, type=kinds.TYPE_MESSAGE, type_name=".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _stored(field: Field) -> tuple[Kind, bool]:
    """The kind of feature that holds a field, and whether as the plain bytes of its elements."""
    if field.is_image or field.dtype in ("string", "bytes") or None in field.shape[1:]:
        return "bytes", False
    if field.dtype in ("float64", "uint64") or (field.dtype == "uint8" and field.shape):
        return "bytes", True
    return ("float" if field.dtype in ("float16", "float32") else "int64"), False


def _put(feature: Any, field: Field, value: Any) -> None:
    kind, raw = _stored(field)
    if kind != "bytes":
        target = getattr(feature, f"{kind}_list")
        target.SetInParent()  # an empty array is no null
        target.value.extend(np.ravel(value).astype(_DTYPES[kind]))
    elif raw:
        feature.bytes_list.value.append(np.ascontiguousarray(value, field.numpy_dtype).tobytes())
    elif field.dtype == "string":
        feature.bytes_list.value.append(str(value).encode())
    else:
        feature.bytes_list.value.append(value if isinstance(value, bytes) else encode_npy(value))


def _parse(record: bytes) -> tuple[Any, str | None]:
    from google.protobuf.message import DecodeError

    make = example_type()
    try:
        return make.FromString(record), None
    except DecodeError as error:
        return make(), f"a record of {len(record)} bytes that is no tf.train.Example ({error})"


def _column(examples: Sequence[Any], name: str, feature: Feature, reasons: list[str | None]) -> pa.Array:
    """One feature of all examples; what can't be becomes null, and its reason is noted."""
    found: list[Any] = []
    for row, features in enumerate(examples):
        values, problem = _values(features[name], feature) if name in features else (None, None)
        if problem:
            reasons[row] = reasons[row] or f"feature {name!r}: {problem}"
        found.append(values)
    kind = feature.arrow_type
    if feature.kind == "bytes" and not feature.raw:
        listed = pa.types.is_nested(kind)
        return pa.array([v if v is None or listed else v[0] for v in found], kind)
    missing = pa.array([values is None for values in found])
    size = 0 if pa.types.is_list(kind) else _total(_inner(kind))
    dtype = np.dtype(feature.raw) if feature.raw else _DTYPES[feature.kind]
    filled = [np.zeros(size, dtype) if values is None else values for values in found]
    leaves = pa.array(np.concatenate(filled) if filled else np.zeros(0, dtype))
    return _nest(leaves, kind, [len(values) for values in filled], missing)


def _values(feature: Any, wanted: Feature) -> tuple[Any, str | None]:
    """The values of a feature (list of bytes or NumPy array), None for none, and what is wrong with them."""
    which = feature.WhichOneof("kind")
    if which is None:
        return None, None
    stored = getattr(feature, which).value
    if which != f"{wanted.kind}_list":
        return None, f"expected {wanted.kind} values, found {which.removesuffix('_list')}"
    kind = wanted.arrow_type
    one = wanted.kind == "bytes" and (wanted.raw or not pa.types.is_nested(kind))
    if one and len(stored) != 1:
        return None, f"expected 1 value, found {len(stored)}"
    if wanted.kind == "bytes" and not wanted.raw:
        return list(stored), None
    if wanted.raw:
        dtype = np.dtype(wanted.raw)
        if len(stored[0]) % dtype.itemsize:
            return None, f"expected elements of {dtype.itemsize} bytes, found {len(stored[0])} bytes"
        values = np.frombuffer(stored[0], dtype)
    else:
        values = np.array(stored, _DTYPES[wanted.kind])
    step = _total(_inner(kind))
    if len(values) % step if pa.types.is_list(kind) else len(values) != step:
        wanted_count = f"a multiple of {step}" if pa.types.is_list(kind) else f"{step}"
        return None, f"expected {wanted_count} values, found {len(values)}"
    return values, None


def _nest(leaves: pa.Array, kind: pa.DataType, lengths: Sequence[int], missing: pa.Array) -> pa.Array:
    """Leaves put into an array of `kind`, of which `lengths` belong to each row."""
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(leaves, type=kind, mask=missing)
    if not pa.types.is_list(kind):
        values = leaves.to_numpy(zero_copy_only=False)
        return pa.array(values, mask=missing.to_numpy(zero_copy_only=False)).cast(kind)
    inner = _inner(kind)
    for size in inner[::-1]:
        leaves = pa.FixedSizeListArray.from_arrays(leaves, size)
    offsets = np.concatenate(([0], np.cumsum(np.array(lengths, np.int64) // _total(inner)))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), leaves, type=kind, mask=missing)


def _inner(kind: pa.DataType) -> tuple[int, ...]:
    """The sizes of the fixed lists in a type."""
    sizes = []
    if pa.types.is_list(kind):
        kind = kind.value_type
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def _total(shape: Sequence[int | None]) -> int:
    return math.prod(size or 0 for size in shape)


def _masked_crc(data: bytes) -> bytes:
    crc = _crc32c()(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@functools.cache
def _crc32c() -> Any:
    try:
        from crc32c import crc32c
    except ImportError as error:
        raise _missing("crc32c") from error
    return crc32c


def _missing(name: str) -> MissingDependencyError:
    return MissingDependencyError(f"TFRecord files need {name}: pip install 'shardwright[tfrecord]'")
