"""From what a `_common_metadata` says, as plain data, to a `Unischema`, and back for writing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from shardwright.errors import SchemaError
from shardwright.format.unischema import DTYPES, StoredCodec, StoredField, StoredUnischema
from shardwright.petastorm.codecs import (
    CompressedImageCodec,
    CompressedNdarrayCodec,
    DataframeColumnCodec,
    NdarrayCodec,
    ScalarCodec,
)
from shardwright.petastorm.unischema import Unischema, UnischemaField, schema_name


def from_stored(stored: StoredUnischema) -> Unischema:
    """The schema of a dataset."""
    return Unischema(stored.name, [_field(one) for one in stored.fields])


def to_stored(schema: Unischema) -> StoredUnischema:
    """What is written of a schema. Raises SchemaError for a codec or a class that stock Petastorm does not know."""
    return StoredUnischema(name=schema_name(schema), fields=tuple(_stored(field) for field in schema.fields.values()))


def _field(stored: StoredField) -> UnischemaField:
    dtype = Decimal if stored.dtype == "Decimal" else getattr(np, stored.dtype)
    return UnischemaField(stored.name, dtype, stored.shape, _codec(stored.codec), stored.nullable)


def _codec(stored: StoredCodec | None) -> DataframeColumnCodec | None:
    if stored is None:
        return None
    if stored.kind == "ndarray":
        return NdarrayCodec()
    if stored.kind == "compressed_ndarray":
        return CompressedNdarrayCodec()
    if stored.kind == "image":
        return CompressedImageCodec(stored.image_format or "png", 80 if stored.quality is None else stored.quality)
    spark = stored.spark_type or "StringType"
    return ScalarCodec(f"{spark}({stored.precision},{stored.scale})" if stored.precision is not None else spark)


def _stored(field: UnischemaField) -> StoredField:
    dtype: Any = field.numpy_dtype
    known = dtype is Decimal or (isinstance(dtype, type) and issubclass(dtype, np.generic))
    name = DTYPES.get("decimal.Decimal" if dtype is Decimal else f"numpy.{dtype.__name__}") if known else None
    if name is None:
        raise SchemaError(f"field {field.name!r}: expected a NumPy scalar class or decimal.Decimal, found {dtype!r}")
    return StoredField(
        name=field.name, dtype=name, shape=tuple(field.shape), codec=_stored_codec(field), nullable=bool(field.nullable)
    )


def _stored_codec(field: UnischemaField) -> StoredCodec | None:
    codec = field.codec
    if codec is None:
        return None
    if type(codec) is NdarrayCodec:
        return StoredCodec(kind="ndarray")
    if type(codec) is CompressedNdarrayCodec:
        return StoredCodec(kind="compressed_ndarray")
    if type(codec) is CompressedImageCodec:
        return StoredCodec(kind="image", image_format=codec.image_codec, quality=codec.quality)
    if type(codec) is ScalarCodec:
        name, precision, scale = codec.spark_name
        return StoredCodec(kind="scalar", spark_type=name, precision=precision, scale=scale)
    raise SchemaError(f"field {field.name!r}: stock Petastorm does not know the codec {type(codec).__name__}")
