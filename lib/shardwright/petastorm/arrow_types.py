"""Which NumPy class stands for a native column of Parquet: what `make_batch_reader` infers of a plain store."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

Inferred = tuple[str, Any, tuple[int | None, ...], None, bool]
"""Name, NumPy class, shape, codec, nullable: what a `UnischemaField` is made of."""

_CLASSES: tuple[tuple[Any, Any], ...] = (
    (pt.is_boolean, np.bool_),
    (lambda kind: pt.is_string(kind) or pt.is_large_string(kind), np.str_),
    (lambda kind: pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind), np.bytes_),
    (pt.is_decimal, Decimal),
    (lambda kind: pt.is_date(kind) or pt.is_timestamp(kind), np.datetime64),
    (lambda kind: pt.is_integer(kind) or pt.is_float32(kind) or pt.is_float64(kind), lambda kind: kind.to_pandas_dtype()),
)


def numpy_class(kind: pa.DataType) -> Any:
    """The class of one value, of an element where the column holds lists. Raises ValueError for a type that has none."""
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return numpy_class(kind.value_type)
    if pt.is_dictionary(kind):
        return numpy_class(kind.value_type)
    for matches, found in _CLASSES:
        if matches(kind):
            return found if isinstance(found, type) else found(kind)
    raise ValueError(f"Cannot auto-create unischema due to unsupported column type {kind}")


def fields_of_arrow(schema: pa.Schema, partitions: Mapping[str, pa.DataType], *, omit_unsupported: bool) -> list[Inferred]:
    """The fields of a plain store: `partitions` by name (int64 or string), then the columns of its files.

    A column of structs, of nested lists or of another type without a NumPy class is left out with a warning, or, unless
    `omit_unsupported`, raises ValueError.
    """
    fields: list[Inferred] = []
    for name, kind in partitions.items():
        if not (pt.is_string(kind) or pt.is_int64(kind)):
            raise RuntimeError(f"partition column {name!r}: expected string or int64, found {kind}")
        fields.append((name, numpy_class(kind), (), None, False))
    for column in schema:
        lists = pt.is_list(column.type) or pt.is_large_list(column.type) or pt.is_fixed_size_list(column.type)
        if lists and pt.is_nested(column.type.value_type):
            warnings.warn(f"Ignoring unsupported structure {column.type} for field {column.name!r}", stacklevel=3)
            continue
        try:
            found = numpy_class(column.type)
        except ValueError:
            if not omit_unsupported:
                raise
            warnings.warn(f"Column {column.name!r} has an unsupported field {column.type}. Ignoring...", stacklevel=3)
            continue
        fields.append((column.name, found, (None,) if lists else (), None, column.nullable))
    return fields
