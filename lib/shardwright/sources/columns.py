"""From Arrow types to fields, and what a user declares on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from shardwright.errors import SchemaError
from shardwright.schema import Field, Schema, check_field_name, suggest

Declaration = Mapping[str, Any]
"""The keys of a `schema.Field` without its name: dtype, shape, codec, nullable."""


def normal_type(kind: pa.DataType) -> pa.DataType:
    """The type as which a column is read: dictionaries decoded, large and view types as ordinary ones, dates as timestamps."""
    if pa.types.is_dictionary(kind):
        return normal_type(kind.value_type)
    if pa.types.is_date(kind):
        return pa.timestamp("ms")
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(normal_type(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(normal_type(kind.value_type), kind.list_size)
    return kind


def infer(kind: pa.DataType) -> Declaration | None:
    """What a column of that (normal) type is, as a declaration; None for a type that no field can have.

    A field is required unless it is declared `nullable`: Parquet writers call nearly every column optional, and a
    schema that followed the data would change with it.
    """
    if pa.types.is_string(kind):
        return {"dtype": "string"}
    if pa.types.is_binary(kind):
        return {"dtype": "bytes"}
    if pa.types.is_timestamp(kind):
        return {"dtype": "timestamp"}
    if _is_number(kind):
        return {"dtype": _dtype(kind)}
    leaf, shape = _nested(kind)
    return {"dtype": _dtype(leaf), "shape": shape} if shape and _is_number(leaf) else None


def fits(field: Field, kind: pa.DataType) -> bool:
    """Whether values of a column of that (normal) type can be values of the field, bad samples aside."""
    if pa.types.is_null(kind):
        return True
    binary = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
    if field.is_image or field.dtype == "bytes":
        return bool(binary)
    if field.shape:
        leaf, shape = _nested(kind)
        return bool(binary or (shape and _is_number(leaf)))
    if field.dtype == "string":
        return bool(binary or pa.types.is_string(kind))
    if field.dtype == "timestamp":
        return bool(pa.types.is_timestamp(kind))
    return _is_number(kind)


def declare(
    inferred: Mapping[str, Declaration | None],
    fields: Mapping[str, Declaration] | None,
    columns: Sequence[str] | None,
    *,
    where: str,
) -> Schema:
    """The schema of the input `where`: what was found, less what `columns` leaves out, with the user's `fields` on top.

    Raises SchemaError for names that the input does not have (with the nearest that it has), for columns whose names or
    types can't be fields, and for declarations that can't be.
    """
    declared = fields or {}
    names = list(inferred if columns is None else columns)
    for name in names:
        if name not in inferred:
            raise SchemaError(f"{where}: no column {name!r}; {suggest(name, list(inferred))}")
    for name in declared:
        if name not in names:
            raise SchemaError(f"{where}: field {name!r} is declared, but there is no such column; {suggest(name, names)}")
    return Schema(fields=tuple(_field(name, inferred[name], declared.get(name, {}), where) for name in names))


def _field(name: str, inferred: Declaration | None, declared: Declaration, where: str) -> Field:
    try:
        check_field_name(name)
    except ValueError as error:
        raise SchemaError(f"{where}: column {name!r} can't be a field ({error}), or leave it out by `columns`") from error
    if inferred is None and "dtype" not in declared:
        raise SchemaError(
            f"{where}: column {name!r} has a type that no field can have; leave it out by `columns`, or write it as numbers, "
            "strings, bytes, timestamps or lists of numbers"
        )
    try:
        return Field.model_validate({**(inferred or {}), **declared, "name": name})
    except ValidationError as error:
        problems = [".".join(str(key) for key in (name, *e["loc"])) + f": {e['msg']}" for e in error.errors()]
        raise SchemaError(f"{where}: a field that can't be: {'; '.join(problems)}") from error


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _dtype(kind: pa.DataType) -> str:
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind))


def _nested(kind: pa.DataType) -> tuple[pa.DataType, tuple[int | None, ...]]:
    """The innermost type of nested lists and their shape: only the outermost may vary."""
    shape: list[int | None] = []
    if pa.types.is_list(kind):
        kind, shape = kind.value_type, [None]
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    return kind, tuple(shape)
