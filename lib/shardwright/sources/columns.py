"""From the columns of an input to fields: their types and names, and what a user declares on top."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import ValidationError

from shardwright.errors import SchemaError
from shardwright.schema import FLOATS, INTEGERS, Field, Schema, check_field_name, suggest

Declaration = Mapping[str, Any]
"""The keys of a `schema.Field` without its name: dtype, shape, codec, nullable."""

PICTURE: Declaration = {"dtype": "uint8", "shape": (None, None, 3), "codec": "image"}
"""What pictures are, unless it is known better."""

_ARROW = {"float16": pa.float32(), "float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
_ARROW |= {"bytes": pa.binary(), "timestamp": pa.timestamp("us")}
_NAME_CHARACTERS = 80
_SHOWN = 5
"""Names that a message lists before it only counts."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Asked:
    """What the user says of the columns of an input: all by the names of fields."""

    fields: Mapping[str, Declaration] = field(default_factory=dict)
    """What is known of fields better than the input says."""
    columns: Sequence[str] | None = None
    """The only fields to read, in this order."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Fields whose columns are called otherwise: the names of these."""

    def only(self, found: Mapping[str, _T]) -> dict[str, _T]:
        """Those of the fields found that are to be read."""
        return {name: value for name, value in found.items() if self.columns is None or name in self.columns}

    def column(self, name: str) -> str:
        """What the column of a field is called."""
        return self.rename.get(name, name)

    def names(self, columns: Iterable[str]) -> list[str]:
        """What columns are called as fields."""
        names = {column: name for name, column in self.rename.items()}
        return [names.get(column, column) for column in columns]

    def by_column(self) -> dict[str, Declaration]:
        """What is known of fields, by the names of their columns."""
        return {self.column(name): declared for name, declared in self.fields.items()}

    def read_type(self, name: str, kind: pa.DataType) -> pa.DataType:
        """What the column of a field, of that type, is read as."""
        return read_type(normal_type(kind), self.fields.get(name, {}))

    def renamed(self, found: Mapping[str, _T], *, where: str) -> dict[str, _T]:
        """What was found of the columns of the input `where`, by the names of fields.

        Raises SchemaError for columns that there are not, or that get two names, and for a name that another column has.
        """
        columns = list(self.rename.values())
        for column in columns:
            if column not in found:
                raise SchemaError(f"{where}: read.rename: no column {column!r}; {suggest(column, list(found))}")
            if columns.count(column) > 1:
                raise SchemaError(f"{where}: read.rename: expected one name for column {column!r}, found several")
        for name in self.rename:
            if name in found and name not in columns:
                raise SchemaError(
                    f"{where}: read.rename: {name!r} is the name of another column; give that one another name too"
                )
        return dict(zip(self.names(found), found.values(), strict=True))


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


def arrow_type(declared: Declaration, inferred: pa.DataType | None) -> pa.DataType:
    """The type to parse text as that is declared so; what does not say a dtype is as inferred, else a string."""
    dtype = declared.get("dtype")
    known = pa.string() if inferred is None else inferred
    if dtype not in (*_ARROW, *INTEGERS):
        return known  # what is no dtype is told of later, with all that is wrong
    if dtype == "timestamp" and pa.types.is_timestamp(known):
        return known  # it knows whether times have a zone
    kind = _ARROW.get(dtype) or pa.type_for_alias(dtype)
    array = declared.get("shape") or ("shape" not in declared and pa.types.is_list(known))
    return pa.list_(kind) if array else kind


def read_type(kind: pa.DataType, declared: Declaration) -> pa.DataType:
    """What a column of that (normal) type is made before its samples get keys and are checked, where a dtype is declared.

    So the same column may be int32 in one file, int64 in another and null in a third; and a decimal can be a field.
    """
    dtype = declared.get("dtype")
    if declared.get("shape") or declared.get("codec"):
        return kind
    if dtype in INTEGERS and (pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        return pa.uint64() if dtype == "uint64" else pa.int64()
    if dtype in FLOATS and (pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        return pa.float64()
    if (dtype == "string" and pa.types.is_decimal(kind)) or (dtype in _ARROW and pa.types.is_null(kind)):
        return _ARROW[dtype]
    return kind


def common_shape(shapes: Sequence[tuple[int, ...]]) -> list[int | None]:
    """The shape of a field whose first arrays have these: a dimension that is not the same in all of them varies.

    One with another number of dimensions than the first will be a bad sample, and does not count.
    """
    same = [shape for shape in shapes if len(shape) == len(shapes[0])]
    return [sizes[0] or None if len({*sizes}) == 1 else None for sizes in zip(*same, strict=True)]


def convert(array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """A column as `kind`, null where a value is none, and for those rows the reason."""
    try:
        return array.cast(kind), {}
    except pa.ArrowInvalid:
        values, bad = [], {}
    for row, value in enumerate(array):
        try:
            values.append(value.cast(kind).as_py())
        except pa.ArrowInvalid:
            values.append(None)
            bad[row] = f"expected {kind}, found {value.as_py()}"
    return pa.array(values, kind), bad


def parse_texts(values: Sequence[bytes | None], kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Texts in UTF-8 as `kind`, without white space around them; null where one is none, and for those rows the reason."""
    texts, bad = list[str | None](), dict[int, str]()
    for row, value in enumerate(values):
        try:
            texts.append(None if value is None else value.decode().strip())
        except UnicodeDecodeError:
            texts.append(None)
            bad[row] = f"expected {kind}, found bytes that are no text: {value[:_NAME_CHARACTERS]!r}"  # type: ignore[index]
    array, misfits = convert(pa.array(texts, pa.string()), kind)
    return array, bad | misfits


def infer(kind: pa.DataType) -> Declaration | str:
    """What a column of that (normal) type is, as a declaration; the type's name where no field can have it.

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
    return {"dtype": _dtype(leaf), "shape": shape} if shape and _is_number(leaf) else str(kind)


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


def declare(inferred: Mapping[str, Declaration | str], asked: Asked, *, where: str) -> Schema:
    """The schema of the input `where`: those of the fields found that are asked for, with what the user says on top.

    A type that no field can have comes as its name. Raises SchemaError for names that the input does not have (with the nearest
    that it has), for columns whose names or types can't be fields, and for declarations that can't be.
    """
    names = list(inferred if asked.columns is None else asked.columns)
    for name in names:
        if name not in inferred:
            raise SchemaError(f"{where}: no column {name!r}; {suggest(name, list(inferred))}")
    for name in asked.fields:
        if name not in names:
            raise SchemaError(f"{where}: field {name!r} is declared, but there is no such column; {suggest(name, names)}")
    _check_names(names, where)
    fields = tuple(_field(name, inferred[name], asked.fields.get(name, {}), where) for name in names)
    try:
        return Schema(fields=fields)
    except ValidationError as error:
        raise SchemaError(
            f"{where}: {error.errors()[0]['ctx']['error']}; upper and lower case are the same to Spark: give one another name "
            "by read.rename, or leave it out by read.columns"
        ) from error


def _check_names(names: Sequence[str], where: str) -> None:
    wrong = [name for name in names if not _is_field_name(name)]
    if not wrong:
        return
    shown = ", ".join(map(show_name, wrong[:_SHOWN])) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
    given = ", ".join(f"{new} = {json.dumps(old, ensure_ascii=False)}" for new, old in _new_names(wrong, names).items())
    another = f"read.rename = {{ {given} }}" if given else "read.rename"
    raise SchemaError(
        f"{where}: column{'s' * (len(wrong) > 1)} {shown} can't be {'fields' if len(wrong) > 1 else 'a field'}: a name is a "
        "letter followed by letters, digits or '_', and neither 'shard' nor a Python keyword; give another by "
        f"{another}, or leave it out by read.columns"
    )


def _new_names(wrong: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Names that some columns could have instead, each with its own: a proposal."""
    out: dict[str, str] = {}
    for column in (name for name in wrong[:_SHOWN] if len(name) <= _NAME_CHARACTERS):
        name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_")
        name = name if _is_field_name(name) else f"column_{name}" if name else "column"
        while name in out or name in names:
            name += "_"
        out[name] = column
    return out


def show_name(name: str) -> str:
    """The name of a column, for messages: what is no CSV may seem to have one of megabytes."""
    return repr(name[:_NAME_CHARACTERS]) + ("…" if len(name) > _NAME_CHARACTERS else "")


def _is_field_name(name: str) -> bool:
    try:
        check_field_name(name)
    except ValueError:
        return False
    return True


def _field(name: str, inferred: Declaration | str, declared: Declaration, where: str) -> Field:
    if isinstance(inferred, str):
        if "dtype" not in declared:
            raise SchemaError(
                f"{where}: column {name!r} has a type that no field can have ({inferred}); leave it out by read.columns, or "
                "write it as numbers, strings, bytes, timestamps or lists of numbers"
            )
        inferred = {}
    try:
        return Field.model_validate({**inferred, **declared, "name": name})
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
