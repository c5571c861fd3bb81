"""Petastorm's Unischema as plain data, read from its pickle without running it.

Stock Petastorm loads that pickle, and whatever a stranger put into it runs. Here it is walked opcode by opcode
(`pickle_nodes`), with a list of the names that may occur. What petastorm 0.4 to 0.13 wrote, on Python 2 and 3, is read.
Source: petastorm 0.13.1, ``unischema.py``, ``codecs.py`` and ``etl/legacy.py``; `format.petastorm` is the half that writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from shardwright.errors import UnsafeMetadataError
from shardwright.format.pickle_nodes import Instance, Name, Node, read_nodes, show

MAX_FIELDS = 10_000
MAX_NAME = 1024
"""Characters in the name of a field."""
_MAX_DIMENSIONS = 64
_MAX_SIZE = 2**63 - 1

CodecKind = Literal["scalar", "ndarray", "compressed_ndarray", "image"]

_CODECS: dict[str, CodecKind] = {
    "petastorm.codecs.ScalarCodec": "scalar",
    "petastorm.codecs.NdarrayCodec": "ndarray",
    "petastorm.codecs.CompressedNdarrayCodec": "compressed_ndarray",
    "petastorm.codecs.CompressedImageCodec": "image",
}
_UNISCHEMA = "petastorm.unischema.Unischema"
_FIELD = "petastorm.unischema.UnischemaField"
_SPARK_TYPES = "Binary Boolean Byte Date Decimal Double Float Integer Long Short String Timestamp TimestampNTZ"
_SPARK = {f"pyspark.sql.types.{name}Type": f"{name}Type" for name in _SPARK_TYPES.split()}
_OWN_NAMES = (
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"),
    *("complex64", "complex128", "bool_", "str_", "bytes_", "object_", "datetime64", "timedelta64"),
)
DTYPES = {
    **{f"numpy.{name}": name for name in _OWN_NAMES},
    "numpy.bool": "bool_",
    "numpy.unicode_": "str_",
    "numpy.string_": "bytes_",
    "numpy.longlong": "int64",
    "numpy.ulonglong": "uint64",
    "numpy.intc": "int32",
    "numpy.uintc": "uint32",
    "decimal.Decimal": "Decimal",
    # NumPy's old names of Python's own types: numpy.int was int.
    "builtins.bool": "bool_",
    "builtins.int": "int64",
    "builtins.float": "float64",
    "builtins.str": "str_",
    "builtins.unicode": "str_",
    "builtins.bytes": "bytes_",
    "builtins.object": "object_",
}
"""The names of dtypes, by those of the classes, as they were at any time, that stand for them in a Unischema."""


@dataclass(frozen=True, kw_only=True)
class StoredCodec:
    """How the values of a field lie in its column.

    `spark_type` (as "DecimalType") is said by "scalar" alone, `precision` and `scale` by DecimalType alone, `image_format` (as
    "png") and `quality` by "image" alone; else they are None.
    """

    kind: CodecKind
    spark_type: str | None = None
    precision: int | None = None
    scale: int | None = None
    image_format: str | None = None
    quality: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredField:
    """A UnischemaField: `dtype` is the name of a NumPy class as NumPy 2 spells it ("int32", "str_", "bytes_") or "Decimal".

    `shape` is () for a scalar; None in it is a dimension that varies. Without a `codec` the column is as Parquet has it.
    The name is as the file has it, and not trusted.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    codec: StoredCodec | None
    nullable: bool


@dataclass(frozen=True, kw_only=True)
class StoredUnischema:
    """A Unischema: its fields, in their order."""

    name: str
    fields: tuple[StoredField, ...]


def parse_unischema(pickled: bytes) -> StoredUnischema:
    """The Unischema that `pickled`, the value of `UNISCHEMA_KEY`, describes; nothing in it is imported or called.

    Raises UnsafeMetadataError for everything that Petastorm would not have written: it names the global, the opcode or the
    field, and says what to do.
    """
    try:
        return _unischema(read_nodes(pickled, {_UNISCHEMA, _FIELD, *_CODECS, *_SPARK}, DTYPES))
    except UnsafeMetadataError as error:
        raise UnsafeMetadataError(
            f"the Unischema's pickle is not one that Petastorm's own classes make: {error}. Nothing in it was run. Have the "
            "metadata written anew from a Unischema of Petastorm's own codecs (`petastorm-generate-metadata.py`), or remove "
            "_common_metadata: then the columns are read as Parquet has them"
        ) from None


def _unischema(node: Node) -> StoredUnischema:
    state = _instance(node, {_UNISCHEMA}).state
    fields = state.get("_fields")
    if type(fields) is not dict or len(fields) > MAX_FIELDS:
        raise UnsafeMetadataError(f"expected the fields of a Unischema, {MAX_FIELDS} at most")
    return StoredUnischema(name=_text(state.get("_name")), fields=tuple(_field(*item) for item in fields.items()))


def _field(key: str, node: Node) -> StoredField:
    arguments = _instance(node, {_FIELD}).arguments
    if len(arguments) != 5:
        raise UnsafeMetadataError(f"field {show(key)}: expected 5 attributes, found {len(arguments)}")
    try:
        name, dtype, shape, codec, nullable = arguments
        if _text(name) != key:
            raise UnsafeMetadataError("it is listed under another name")
        if type(dtype) is not Name or dtype.name not in DTYPES:
            raise UnsafeMetadataError(f"expected the dtype to be one of {', '.join(sorted(set(DTYPES.values())))}")
        if nullable is not None and type(nullable) is not bool:
            raise UnsafeMetadataError("expected nullable to be a bool")
        return StoredField(
            name=key, dtype=DTYPES[dtype.name], shape=_shape(shape), codec=_codec(codec), nullable=bool(nullable)
        )
    except UnsafeMetadataError as error:
        raise UnsafeMetadataError(f"field {show(key)}: {error}") from None


def _shape(node: Node) -> tuple[int | None, ...]:
    if type(node) not in (tuple, list) or len(node) > _MAX_DIMENSIONS:  # type: ignore[arg-type]
        raise UnsafeMetadataError(f"expected the shape to be a tuple of at most {_MAX_DIMENSIONS} dimensions")
    return tuple(None if size is None else _whole(size, "a dimension") for size in node)  # type: ignore[union-attr]


def _codec(node: Node) -> StoredCodec | None:
    if node is None:
        return None
    codec = _instance(node, _CODECS)
    kind = _CODECS[codec.name]
    if kind == "scalar":
        spark = _instance(codec.state.get("_spark_type"), _SPARK)
        decimal = _SPARK[spark.name] == "DecimalType"
        precision, scale = (_optional(spark.state.get(key), key) if decimal else None for key in ("precision", "scale"))
        return StoredCodec(kind=kind, spark_type=_SPARK[spark.name], precision=precision, scale=scale)
    if kind == "image":
        image_format = _text(codec.state.get("_image_codec")).removeprefix(".")
        return StoredCodec(kind=kind, image_format=image_format, quality=_optional(codec.state.get("_quality"), "quality"))
    return StoredCodec(kind=kind)


def _instance(node: Node, classes: Any) -> Instance:
    if type(node) is not Instance or node.name not in classes:
        found = node.name if isinstance(node, Instance | Name) else type(node).__name__
        raise UnsafeMetadataError(f"expected an instance of {' or '.join(sorted(classes))}, found {found}")
    return node


def _text(node: Node) -> str:
    if type(node) is not str or len(node) > MAX_NAME or not _is_unicode(node):
        raise UnsafeMetadataError(f"expected a name of at most {MAX_NAME} characters, found {type(node).__name__}")
    return node


def _is_unicode(text: str) -> bool:
    """Not so where there are halves of surrogate pairs, which a pickle can hold and a column's name can't."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _whole(node: Node, what: str) -> int:
    if type(node) is not int or not 0 <= node <= _MAX_SIZE:
        raise UnsafeMetadataError(f"expected {what} to be a whole number")
    return node


def _optional(node: Node, what: str) -> int | None:
    return None if node is None else _whole(node, what)
