"""What a field of a stored Unischema becomes: its declaration here, and how its cells are read.

=====================================================  =================================================================
Petastorm                                              here
=====================================================  =================================================================
number, bool, string, bytes: ScalarCodec or none       the same dtype, whatever wider type the column has
datetime64: a timestamp, a date                        timestamp, in UTC; a date as its midnight
Decimal                                                string, with all its digits; or what `read.fields` declares
object_                                                what the column's own type says
array of numbers or bools, compressed or not           array of the same dtype and shape; a shape of () as a number
array of datetime64                                    array of int64, microseconds since 1970; NaT as -2**63
array of strings or bytes, compressed or not           string: JSON, nested lists; each byte as the character of its code
list of strings without a codec                        the same
CompressedImageCodec png, jpeg, webp: uint8, uint16    the picture as it came
CompressedImageCodec of another kind                   bytes, as they came
=====================================================  =================================================================

complex numbers, timedelta64, arrays of Decimal or of Python objects can't be fields: they are refused before anything runs,
unless they are left out, or `read.fields` declares them bytes, as which their cells are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from shardwright.format.unischema import StoredField
from shardwright.schema import NUMBERS
from shardwright.sources.columns import Declaration, infer, normal_type
from shardwright.sources.petastorm_values import (
    CellConverter,
    Converted,
    Step,
    array_scalar,
    json_of_array,
    json_of_lists,
    microseconds,
    unzipped,
)

_DTYPES = {**{name: name for name in NUMBERS}, "bool_": "bool", "str_": "string", "bytes_": "bytes", "datetime64": "timestamp"}
_PICTURES = ("png", "jpeg", "jpg", "webp")


@dataclass(frozen=True, kw_only=True)
class Form:
    """A field here: its declaration, the type of its column as read (None: a hive partition), and what makes it."""

    declared: Declaration
    kind: pa.DataType | None
    convert: Callable[[pa.Array], Converted] | None = None
    compressed: bool = False
    """Cells grow when they are read."""
    note: str = ""
    """What is different afterwards, for people; nothing where dtype and shape are those of before."""
    refused: str = ""
    """Why it can't be a field."""


def new_form(field: StoredField, column: pa.DataType) -> Form:
    """What `field`, whose column has that Arrow type, becomes."""
    kind = normal_type(column)
    codec = field.codec.kind if field.codec else None
    if codec == "image":
        form = _picture(field, kind)
    elif codec in ("ndarray", "compressed_ndarray"):
        form = _array(field, kind, zipped=codec == "compressed_ndarray")
    else:
        form = _list(field, kind) if field.shape else _scalar(field, kind)
    return replace(form, declared={**form.declared, "nullable": field.nullable})


def partition_form(field: StoredField) -> Form:
    """What a field becomes whose values stand in the names of folders: what these look like, where its dtype does not say."""
    dtype = "string" if field.dtype == "Decimal" else _DTYPES.get(field.dtype)
    return Form(declared={**({"dtype": dtype} if dtype else {}), "nullable": field.nullable}, kind=None)


def _scalar(field: StoredField, kind: pa.DataType) -> Form:
    text = pa.types.is_string(kind)
    binary = pa.types.is_binary(kind)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    decimal = pa.types.is_decimal(kind)
    dtype = _DTYPES.get(field.dtype)
    if field.dtype == "object_":
        found = {"dtype": "string"} if decimal else infer(kind)
        if isinstance(found, str):
            return _refused(field, kind, f"in a column of {kind}")
        return Form(declared=found, kind=kind, note="Decimal as text" if decimal else "")
    if field.dtype == "Decimal" and (decimal or text):
        return Form(declared={"dtype": "string"}, kind=kind, note="Decimal as text")
    if dtype == "bytes" and text:
        return Form(declared={"dtype": "bytes"}, kind=pa.binary(), convert=_text_bytes)
    fits = {
        "string": text or binary or decimal,
        "bytes": binary,
        "timestamp": pa.types.is_timestamp(kind),
        "bool": number,
    }.get(dtype or "", dtype in NUMBERS and (number or decimal))
    if dtype is None or not fits:
        return _refused(field, kind, f"in a column of {kind}")
    return Form(declared={"dtype": dtype}, kind=kind)


def _text_bytes(column: pa.Array) -> Converted:
    return column.cast(pa.binary()), {}


def _array(field: StoredField, kind: pa.DataType, *, zipped: bool) -> Form:
    if not pa.types.is_binary(kind):
        return _refused(field, kind, f"in a column of {kind}")
    dtype = _DTYPES.get(field.dtype)
    shape = _shape(field)
    steps: list[Step] = [unzipped] if zipped else []
    declared: dict[str, Any]
    note, out = "", pa.binary()
    if dtype in NUMBERS or dtype == "bool":
        declared = {"dtype": dtype, "shape": shape}
        if not shape:
            steps.append(array_scalar)
            out = pa.bool_() if dtype == "bool" else pa.type_for_alias(str(dtype))
    elif dtype in ("string", "bytes"):
        declared, note, out = {"dtype": "string"}, "array of text as JSON", pa.string()
        steps.append(json_of_array)
    elif dtype == "timestamp" and shape:
        declared, note = {"dtype": "int64", "shape": shape}, "times as microseconds since 1970"
        steps.append(microseconds)
    else:
        return _refused(field, kind, "in an array")
    convert = CellConverter(tuple(steps), out) if steps else None
    return Form(declared=declared, kind=out, convert=convert, compressed=zipped, note=note)


def _list(field: StoredField, kind: pa.DataType) -> Form:
    leaf = kind
    while pa.types.is_list(leaf) or pa.types.is_fixed_size_list(leaf):
        leaf = leaf.value_type
    if leaf == kind:
        return _refused(field, kind, f"of shape {field.shape} in a column of {kind}, without a codec")
    if pa.types.is_string(leaf) or pa.types.is_binary(leaf):
        return Form(declared={"dtype": "string"}, kind=pa.string(), convert=json_of_lists, note="list of text as JSON")
    dtype = _DTYPES.get(field.dtype)
    if dtype not in NUMBERS and dtype != "bool":
        return _refused(field, kind, f"in a column of {kind}")
    return Form(declared={"dtype": dtype, "shape": _shape(field)}, kind=kind)


def _picture(field: StoredField, kind: pa.DataType) -> Form:
    if not pa.types.is_binary(kind):
        return _refused(field, kind, f"as pictures in a column of {kind}")
    assert field.codec is not None
    picture = field.codec.image_format in _PICTURES and field.dtype in ("uint8", "uint16") and len(field.shape) in (2, 3)
    if not picture:
        return Form(declared={"dtype": "bytes"}, kind=kind, note=f"pictures as {field.codec.image_format!a}: kept as bytes")
    return Form(declared={"dtype": field.dtype, "shape": _shape(field), "codec": "image"}, kind=kind)


def _shape(field: StoredField) -> tuple[int | None, ...]:
    """Petastorm takes a size of 0 for any size, as None."""
    return tuple(size or None for size in field.shape)


def _refused(field: StoredField, kind: pa.DataType, what: str) -> Form:
    return Form(declared={}, kind=kind, refused=f"{field.dtype} {what}")
