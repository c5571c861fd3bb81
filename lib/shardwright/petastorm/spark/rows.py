"""Rows for Spark: what a `Unischema` says as a Spark schema, and dicts as `pyspark.Row`s of encoded values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyspark.sql.types as types
from pyspark.sql import Row

from shardwright.petastorm.unischema import Unischema, UnischemaField, insert_explicit_nulls

_BY_CLASS = {
    np.int8: types.ByteType, np.uint8: types.ShortType, np.int16: types.ShortType, np.uint16: types.IntegerType,
    np.int32: types.IntegerType, np.int64: types.LongType, np.float32: types.FloatType, np.float64: types.DoubleType,
    np.bytes_: types.StringType, np.str_: types.StringType, np.bool_: types.BooleanType,
}  # fmt: skip


def spark_type(named: Any) -> types.DataType:
    """A type by its name, as in 'LongType' or 'DecimalType(10,2)'; a type itself as it is."""
    if not isinstance(named, str):
        return named  # type: ignore[no-any-return]
    name, _, numbers = named.rstrip(")").partition("(")
    cls = getattr(types, name)
    found: types.DataType = cls(*map(int, numbers.split(","))) if numbers else cls()
    return found


def spark_schema(schema: Unischema) -> types.StructType:
    """The columns that a dataset of `schema` is stored in. Raises ValueError for a field that no type is known for."""
    fields = schema.fields.values()
    return types.StructType([types.StructField(field.name, _type_of(field), bool(field.nullable)) for field in fields])


def _type_of(field: UnischemaField) -> types.DataType:
    if field.codec is not None:
        found: types.DataType = field.codec.spark_dtype()
        return found
    if field.shape != ():
        raise ValueError(
            f"An instance of non-scalar UnischemaField '{field.name}' has codec set to None. Don't know how to guess a Spark "
            "type for it"
        )
    if field.numpy_dtype not in _BY_CLASS:
        raise ValueError(f"Was not able to map type {field.numpy_dtype} to a spark type.")
    known: types.DataType = _BY_CLASS[field.numpy_dtype]()
    return known


def spark_row(schema: Unischema, row_dict: Mapping[str, Any]) -> Row:
    """`row_dict` as Spark stores it.

    Raises ValueError for other fields than the schema's, and for a None that is not allowed.
    """
    if not isinstance(schema, Unischema):
        raise TypeError(f"expected a Unischema, found {type(schema).__name__}")
    values = dict(row_dict)
    insert_explicit_nulls(schema, values)
    if unknown := values.keys() - schema.fields.keys():
        raise ValueError(
            f"Dictionary fields {sorted(values)} do not match schema fields {list(schema.fields)}: {sorted(unknown)}"
        )
    row = Row(*(_encoded(field, values[name]) for name, field in schema.fields.items()))
    row.__fields__ = list(schema.fields)
    return row


def _encoded(field: UnischemaField, value: Any) -> Any:
    if value is None:
        if not field.nullable:
            raise ValueError(f'Field {field.name} is not "nullable", but got passes a None value')
        return None
    if field.codec is not None:
        return field.codec.encode(field, value)
    return value.tolist() if isinstance(value, np.generic) else value
