"""A Unischema as plain data, and how it is read from the pickle that Petastorm stores it as, without running that.

`pickletools.genops` cuts the pickle into opcodes; a small machine here gives meaning to those that Petastorm's schemas need,
over an allow-list of names that become inert values. Nothing is imported, called or built, whatever the pickle says; any other
opcode or name is refused. Written by petastorm 0.4 (Python 2, protocol 0) to 0.13 (protocol 4). The writing half is
`format.petastorm`.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, UnsafeMetadataError
from shardwright.format.pickle_machine import Global, Instance, Mapping, run

UNISCHEMA_KEY = "dataset-toolkit.unischema.v1"
ROW_GROUPS_KEY = "dataset-toolkit.num_row_groups_per_file.v1"

NUMPY_NAMES = {
    **{name: name for name in (
        "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
        "bool_", "str_", "bytes_", "object_", "datetime64", "timedelta64", "complex64", "complex128",
    )},
    "unicode_": "str_", "string_": "bytes_", "bool": "bool_", "longlong": "int64", "ulonglong": "uint64", "float_": "float64",
    "int_": "int64",
}  # fmt: skip
"""Classes of NumPy, by all the names that they had."""
_BUILTINS = {
    "bool": "bool_",
    "int": "int64",
    "long": "int64",
    "float": "float64",
    "str": "str_",
    "unicode": "str_",
    "bytes": "bytes_",
}
_SPARK_TYPES = frozenset(
    f"{name}Type"
    for name in (
        "Boolean",
        "Byte",
        "Short",
        "Integer",
        "Long",
        "Float",
        "Double",
        "Decimal",
        "String",
        "Binary",
        "Date",
        "Timestamp",
    )
)
_MODULES = ("petastorm", "av.ml.dataset_toolkit", "av.experimental.deepdrive.dataset_toolkit")
"""What the package was called."""
_CODECS: dict[str, CodecKind] = {
    "ScalarCodec": "scalar",
    "NdarrayCodec": "ndarray",
    "CompressedNdarrayCodec": "compressed_ndarray",
    "CompressedImageCodec": "image",
}
_MOST_FIELDS = 100_000
_MOST_DIMENSIONS = 64

CodecKind = Literal["scalar", "ndarray", "compressed_ndarray", "image"]


@dataclass(frozen=True, kw_only=True)
class StoredCodec:
    """How a field's values are stored; what does not belong to the kind is None."""

    kind: CodecKind
    spark_type: str | None = None
    """Of "scalar": the name of a class of `pyspark.sql.types`."""
    precision: int | None = None
    """Of a DecimalType."""
    scale: int | None = None
    image_format: str | None = None
    """Of "image": 'png' or 'jpeg', which a picture's own magic stands above."""
    quality: int | None = None


@dataclass(frozen=True)
class StoredField:
    """A field. `dtype` is the name of a NumPy class, or 'Decimal'; a None in `shape` is a dimension that varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    codec: StoredCodec | None
    nullable: bool


@dataclass(frozen=True)
class StoredUnischema:
    """A schema. The names are not trusted: they may be any strings."""

    name: str
    fields: tuple[StoredField, ...]


@dataclass(frozen=True, kw_only=True)
class CommonMetadata:
    """What a `_common_metadata` says; None for a key that it lacks."""

    unischema: StoredUnischema | None
    row_groups: dict[str, int] | None
    """How many row groups each file has, by its path relative to the dataset."""
    arrow_schema: pa.Schema


def read_common_metadata(data: bytes) -> CommonMetadata:
    """The content of a file `_common_metadata`.

    Raises CorruptError for bytes that are no Parquet file, or row groups that can't be, UnsafeMetadataError for a pickle that
    is no Unischema.
    """
    try:
        footer = pq.read_metadata(io.BytesIO(data))
        arrow_schema = footer.schema.to_arrow_schema().remove_metadata()
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"_common_metadata: expected a Parquet file, found one that can't be read ({error})") from error
    found = footer.metadata or {}
    pickled, counts = found.get(UNISCHEMA_KEY.encode()), found.get(ROW_GROUPS_KEY.encode())
    return CommonMetadata(
        unischema=None if pickled is None else parse_unischema(pickled),
        row_groups=None if counts is None else _row_groups(counts),
        arrow_schema=arrow_schema,
    )


def parse_unischema(pickled: bytes) -> StoredUnischema:
    """The schema in a pickle, which is not run.

    Raises UnsafeMetadataError for a name or an opcode that no schema has, which it names, and for anything but a Unischema.
    """
    value = run(pickled, _known)
    if not _is_instance(value, "Unischema"):
        raise UnsafeMetadataError(f"expected a pickled Unischema, found {_kind(value)}")
    state = _state(value)
    fields = state.get("_fields")
    if not isinstance(fields, Mapping):
        raise UnsafeMetadataError(f"Unischema: expected an OrderedDict of fields, found {_kind(fields)}")
    pairs = list(fields.pairs)
    if len(pairs) > _MOST_FIELDS:
        raise UnsafeMetadataError(f"Unischema: {len(pairs)} fields are more than the {_MOST_FIELDS} that are read")
    return StoredUnischema(_text(state.get("_name"), "name"), tuple(_field(key, field) for key, field in pairs))


def _known(module: str, name: str) -> str | None:
    """What a global stands for; None for one that no schema has."""
    for package in _MODULES:
        if module == f"{package}.unischema" and name in ("Unischema", "UnischemaField"):
            return name
        if module == f"{package}.codecs" and name in _CODECS:
            return name
    if module == "numpy" and name in NUMPY_NAMES:
        return f"numpy.{NUMPY_NAMES[name]}"
    if module in ("builtins", "__builtin__") and name in _BUILTINS:
        return f"numpy.{_BUILTINS[name]}"
    if (module, name) == ("decimal", "Decimal"):
        return "numpy.Decimal"
    if module == "pyspark.sql.types" and name in _SPARK_TYPES:
        return f"spark.{name}"
    return None


def _field(key: Any, value: Any) -> StoredField:
    name = _text(key, "field name")
    if not _is_instance(value, "UnischemaField"):
        raise UnsafeMetadataError(f"field {_short(name)}: expected a UnischemaField, found {_kind(value)}")
    arguments = value.arguments
    if len(arguments) not in (4, 5):  # the oldest ones lack `nullable`
        raise UnsafeMetadataError(f"field {_short(name)}: expected 5 attributes, found {len(arguments)}")
    dtype = arguments[1]
    if not (isinstance(dtype, Global) and dtype.stands_for.startswith("numpy.")):
        raise UnsafeMetadataError(f"field {_short(name)}: expected a NumPy class, found {_kind(dtype)}")
    nullable = arguments[4] if len(arguments) == 5 else False
    if not isinstance(nullable, bool) and nullable not in (0, 1, None):
        raise UnsafeMetadataError(f"field {_short(name)}: expected nullable to be a boolean, found {_kind(nullable)}")
    if _text(arguments[0], "field name") != name:
        raise UnsafeMetadataError(f"field {_short(name)}: its key is another name than its own")
    return StoredField(
        name, dtype.stands_for.removeprefix("numpy."), _shape(arguments[2], name), _codec(arguments[3], name), bool(nullable)
    )


def _shape(value: Any, name: str) -> tuple[int | None, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_DIMENSIONS:
        raise UnsafeMetadataError(f"field {_short(name)}: expected a shape, found {_kind(value)}")
    for size in value:
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63):
            raise UnsafeMetadataError(f"field {_short(name)}: expected sizes or None in its shape, found {_kind(size)}")
    return tuple(value)


def _codec(value: Any, name: str) -> StoredCodec | None:
    if value is None:
        return None
    if not (isinstance(value, Instance) and value.cls.stands_for in _CODECS):
        raise UnsafeMetadataError(f"field {_short(name)}: expected a codec, found {_kind(value)}")
    kind = _CODECS[value.cls.stands_for]
    state = _state(value)
    if kind == "scalar":
        return _scalar_codec(state.get("_spark_type"), name)
    if kind == "image":
        extension, quality = state.get("_image_codec", ".png"), state.get("_quality", 80)
        return StoredCodec(
            kind=kind, image_format=_text(extension, "image codec").removeprefix("."), quality=_number(quality, name, "quality")
        )
    return StoredCodec(kind=kind)


def _scalar_codec(spark: Any, name: str) -> StoredCodec:
    cls = spark.cls if isinstance(spark, Instance) else spark  # an instance, or the class itself
    if not (isinstance(cls, Global) and cls.stands_for.startswith("spark.")):
        raise UnsafeMetadataError(f"field {_short(name)}: expected a type of pyspark.sql.types, found {_kind(spark)}")
    spark_type, state = cls.stands_for.removeprefix("spark."), _state(spark) if isinstance(spark, Instance) else {}
    if spark_type != "DecimalType":
        return StoredCodec(kind="scalar", spark_type=spark_type)
    precision, scale = (_number(state.get(key, preset), name, key) for key, preset in (("precision", 10), ("scale", 0)))
    return StoredCodec(kind="scalar", spark_type=spark_type, precision=precision, scale=scale)


def _is_instance(value: Any, name: str) -> bool:
    return isinstance(value, Instance) and value.cls.stands_for == name


def _state(value: Instance) -> dict[str, Any]:
    """The attributes of an instance, by name; none where it has none."""
    if value.state is None:
        return {}
    if not isinstance(value.state, Mapping):
        raise UnsafeMetadataError(f"{value.cls.stands_for}: expected its attributes in a dict, found {_kind(value.state)}")
    return {key: item for key, item in value.state.pairs if isinstance(key, str)}


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value or len(value) > 65_535:
        raise UnsafeMetadataError(f"{what}: expected a text of 1 to 65,535 characters, found {_kind(value)}")
    return value


def _number(value: Any, name: str, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**31) <= value < 2**31:
        raise UnsafeMetadataError(f"field {_short(name)}: expected a number as {what}, found {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    """What a value is, without looking into it: it may be endless."""
    if isinstance(value, Instance):
        return f"an instance of {_short(value.cls.name)}"
    return _short(value.name) if isinstance(value, Global) else f"a {type(value).__name__}"


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}…")


def _row_groups(data: bytes) -> dict[str, int]:
    """Row groups by path. Raises CorruptError for anything else than {relative path: number}."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"_common_metadata: {ROW_GROUPS_KEY}: expected JSON ({error})") from error
    if not isinstance(found, dict):
        raise CorruptError(f"_common_metadata: {ROW_GROUPS_KEY}: expected an object, found a {type(found).__name__}")
    for path, count in found.items():
        parts = PurePosixPath(path).parts
        if not path or path.startswith("/") or ".." in parts or "\0" in path:
            raise CorruptError(f"_common_metadata: {ROW_GROUPS_KEY}: expected paths below the dataset, found {_short(path)}")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**31:
            raise CorruptError(f"_common_metadata: {ROW_GROUPS_KEY}: {_short(path)}: expected a number of row groups")
    return found
