"""The metadata that makes a split, or one shard alone, a dataset of stock Petastorm.

A file ``_common_metadata``, Parquet without rows, carries two keys: the pickled `Unischema`, which says how each column
is decoded, and how many row groups each part holds. Source: petastorm 0.13.1, ``etl/dataset_metadata.py``; the pickle is that
of `format.unischema_pickle`.

What stock Petastorm decodes each field to, and what it decodes it from:

=====================  ==========================  =================================================================
field                  column                      Unischema
=====================  ==========================  =================================================================
number, bool           native, signed, no float16  ScalarCodec of the Spark type; values of the declared NumPy type
string, bytes          native                      ScalarCodec(StringType), ScalarCodec(BinaryType)
timestamp              timestamp[us]               ScalarCodec(TimestampType) to datetime64; if nullable, pandas' own
array, codec npy       `numpy.save` bytes          NdarrayCodec
array, codec float16   `numpy.save` bytes          NdarrayCodec, to float16
array, any other       what the codec makes        as bytes
image                  encoded picture             CompressedImageCodec, which decodes by the picture's own magic
image, as JPEG XL      encoded picture             as bytes: OpenCV, by which it decodes, has no JPEG XL
=====================  ==========================  =================================================================
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import SchemaError
from shardwright.format.common_metadata import ROW_GROUPS_KEY, UNISCHEMA_KEY
from shardwright.format.unischema import StoredCodec, StoredField, StoredUnischema
from shardwright.format.unischema_pickle import dump_unischema
from shardwright.schema import Field, Schema

UNISCHEMA_NAME = "Shardwright"
"""Petastorm calls its rows ``<name>_view``."""

_NUMPY_NAMES = {"bool": "bool_", "string": "str_", "bytes": "bytes_", "timestamp": "datetime64"}
_SPARK_TYPES = {
    "bool": "BooleanType",
    "int8": "ByteType",
    "uint8": "ShortType",
    "int16": "ShortType",
    "uint16": "IntegerType",
    "int32": "IntegerType",
    "uint32": "LongType",
    "int64": "LongType",
    "uint64": "LongType",  # the nearest that Spark has; readers convert by the NumPy type and do not look at this one
    "float16": "FloatType",
    "float32": "FloatType",
    "float64": "DoubleType",
    "string": "StringType",
    "bytes": "BinaryType",
    "timestamp": "TimestampType",
}


def unischema_of(schema: Schema, name: str) -> StoredUnischema:
    """What stock Petastorm is told of `schema`, under the name `name`."""
    return StoredUnischema(name=name, fields=tuple(_stored(field) for field in schema))


def stock_petastorm_form(field: Field) -> str | None:
    """What stock Petastorm hands out where that is not the field's value as declared; None where it is.

    A picture that was kept as it came is taken to be one that OpenCV decodes.
    """
    if _as_bytes(field):
        kind = "a JPEG XL picture" if field.is_image else f"the codec {field.codec.name!r}" if field.codec else ""
        return f"the stored bytes of {kind}"
    return "a float16 array" if _is_float16(field) else None


def common_metadata(schema: Schema, arrow_schema: pa.Schema, row_groups: Mapping[str, int]) -> bytes:
    """The bytes of the file ``_common_metadata`` of a split, or of one shard that lies alone.

    `arrow_schema` is that of the part files. It may hold columns that `schema` does not name; readers then leave them
    out. `row_groups` maps each part, as a '/'-separated path relative to the directory that gets the file, to its number
    of row groups: every part there, since readers look up each file they find. The same arguments give the same bytes.

    Raises `SchemaError` for a field without a column, `ValueError` for a path or a number that Petastorm fails on.
    """
    absent = [name for name in schema.names if name not in arrow_schema.names]
    if absent:
        raise SchemaError(f"fields without a column in the part files: {', '.join(absent)}")
    _check_row_groups(row_groups)
    return write_common_metadata(arrow_schema, unischema_of(schema, UNISCHEMA_NAME), row_groups)


def write_common_metadata(arrow_schema: pa.Schema, unischema: StoredUnischema, row_groups: Mapping[str, int]) -> bytes:
    """The bytes of a file ``_common_metadata``. Raises SchemaError for a schema whose name is no identifier."""
    buffer = io.BytesIO()
    # Without ARROW:schema, as in the parts: old pyarrow fails on types in it that it does not know.
    with pq.ParquetWriter(buffer, arrow_schema.remove_metadata(), store_schema=False) as writer:
        writer.add_key_value_metadata(
            {
                UNISCHEMA_KEY: dump_unischema(unischema),
                ROW_GROUPS_KEY: json.dumps(dict(row_groups), sort_keys=True).encode("ascii"),
            }
        )
    return buffer.getvalue()


def _check_row_groups(row_groups: Mapping[str, int]) -> None:
    for path, count in row_groups.items():
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or str(parts) != path or path == ".":
            raise ValueError(f"part {path!r}: expected a plain path relative to the directory of _common_metadata")
        if count < 1:
            raise ValueError(f"part {path!r}: expected at least one row group, found {count}")


def _stored(field: Field) -> StoredField:
    return StoredField(
        name=field.name, dtype=_numpy_class(field), shape=_shape(field), codec=_codec(field), nullable=field.nullable
    )


def _numpy_class(field: Field) -> str:
    if _as_bytes(field):
        return "bytes_"
    if _is_float16(field):
        return "float16"
    if field.dtype == "timestamp" and field.nullable:
        # numpy.datetime64(pandas.NaT) raises, and with it the whole row group. object_ hands on what pandas read.
        return "object_"
    return _NUMPY_NAMES.get(field.dtype, field.dtype)


def _shape(field: Field) -> tuple[int | None, ...]:
    if _as_bytes(field):
        return ()
    if field.is_image and field.shape[2:] == (1,):
        return field.shape[:2]  # stock decodes a grey picture to (height, width)
    return field.shape


def _codec(field: Field) -> StoredCodec:
    if field.is_image and not _as_bytes(field):
        # 'png' and 80 matter to writers alone; they are what Petastorm's own constructor defaults to.
        return StoredCodec(kind="image", image_format="png", quality=80)
    if field.shape and not _as_bytes(field):
        return StoredCodec(kind="ndarray")
    return StoredCodec(kind="scalar", spark_type="BinaryType" if _as_bytes(field) else _SPARK_TYPES[field.dtype])


def _as_bytes(field: Field) -> bool:
    if field.codec is None:
        return False
    if field.codec.name == "image":
        return field.codec.configuration.get("format") == "jpegxl"
    return field.codec.name not in ("npy", "float16")


def _is_float16(field: Field) -> bool:
    return field.codec is not None and field.codec.name == "float16"
