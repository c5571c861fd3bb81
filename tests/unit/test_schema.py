"""What a field and a schema can be, and what is said of one that can't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from shardwright.errors import SchemaError
from shardwright.schema import NUMBERS, CodecSpec, Field, Schema, suggest


def make(**values: Any) -> Field:
    return Field.model_validate({"name": "x", "dtype": "uint8", **values})


@pytest.mark.parametrize("name", ["shard", "Shard", "SHARD", "_key", "_pad", "_", "_x"])
def test_reserved_names(name: str) -> None:
    with pytest.raises(ValidationError, match=f"field '{name}': 'shard' and names that begin with '_' are reserved; rename"):
        make(name=name)


@pytest.mark.parametrize("name", ["", "1x", "a b", "a-b", "a.b", "é", "x\n", "class", "None", "a/b", "..", "a=b", 'a"'])
def test_names_that_no_file_or_namedtuple_can_have(name: str) -> None:
    with pytest.raises(ValidationError, match="expected a letter followed by letters, digits or '_' and no Python keyword"):
        make(name=name)


@pytest.mark.parametrize("name", ["x", "X1", "a_b", "match", "shards", "key_", "x" * 200])
def test_names_that_can_be(name: str) -> None:
    assert make(name=name).name == name


@pytest.mark.parametrize(
    "values, message",
    [
        ({"shape": (0,)}, r"field 'x': every dimension must be at least 1 \(or null\), found \(0,\)"),
        ({"shape": (2, -1)}, "every dimension must be at least 1"),
        ({"dtype": "string", "shape": (2,)}, "field 'x': arrays of string are not supported; use a number or bool"),
        ({"dtype": "timestamp", "shape": (None,)}, "arrays of timestamp are not supported"),
        ({"dtype": "bytes", "shape": (2,)}, "arrays of bytes are not supported"),
        ({"codec": "npy"}, "field 'x': codec 'npy' needs a shape"),
        ({"codec": "raw", "shape": (None,)}, "field 'x': layout 'raw' needs a fixed shape and no nulls"),
        ({"codec": "raw", "shape": (2,), "nullable": True}, "layout 'raw' needs a fixed shape and no nulls"),
        ({"codec": "image", "shape": (2, 2), "dtype": "float32"}, "an image is uint8 or uint16"),
        ({"codec": "image", "shape": (2, 2, 3, 1)}, r"an image is uint8 or uint16, \(height, width\[, channels\]\)"),
        ({"codec": "jpeg", "shape": (2, 2)}, "Input should be 'npy', 'raw', 'image', 'float16', 'bfloat16', 'int8' or 'zfp'"),
        ({"codec": "int8", "shape": (2,)}, "field 'x': codec 'int8' is for float32 and float64, found uint8"),
        ({"codec": "float16", "shape": (2,), "dtype": "float16"}, "codec 'float16' is for float32 and float64, found float16"),
        ({"codec": "zfp", "dtype": "float32"}, "field 'x': codec 'zfp' needs a shape"),
        ({"codec": "zfp", "shape": (2,) * 5, "dtype": "float32"}, "codec 'zfp' takes 1 to 4 dimensions, found 5"),
        (
            {"codec": "int8", "shape": (None, 2), "dtype": "float64"},
            "field 'x': codec 'int8' needs a fixed shape; 'float16' and",
        ),
        ({"codec": "bfloat16", "shape": (None,), "dtype": "float32"}, "codec 'bfloat16' needs a fixed shape"),
        ({"dtype": "int"}, "Input should be 'bool'"),
        ({"dtyp": "int8"}, "Extra inputs are not permitted"),
    ],
)
def test_fields_that_can_not_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**values)


def test_schemas_that_can_not_be() -> None:
    with pytest.raises(ValidationError, match="a schema needs at least one field"):
        Schema(fields=())
    with pytest.raises(ValidationError, match="fields named twice: x"):
        Schema(fields=(make(), make(dtype="int8"), make(name="y")))


def test_names_that_differ_only_in_case_are_one_to_sql_engines() -> None:
    with pytest.raises(ValidationError, match="fields named twice: X, x"):
        Schema(fields=(make(), make(name="y"), make(name="X")))


def test_a_field_by_name() -> None:
    schema = Schema(fields=(make(name="image"), make(name="label")))
    assert schema["label"].name == "label"
    assert "label" in schema
    assert "labels" not in schema
    assert (schema.names, len(schema), [field.name for field in schema]) == (("image", "label"), 2, ["image", "label"])
    with pytest.raises(SchemaError, match="no field 'lable'; did you mean 'label'\\? known: image, label"):
        schema["lable"]


def test_suggest_says_nothing_where_nothing_is_near() -> None:
    assert suggest("zzz", ("image", "label")) == "known: image, label"


def test_arrays_get_a_codec_by_default() -> None:
    assert make(shape=(2,)).codec == CodecSpec(name="npy")
    assert make().codec is None
    assert make(shape=(2,), codec={"name": "raw"}).codec == CodecSpec(name="raw")


@pytest.mark.parametrize("dtype", [*NUMBERS, "bool", "timestamp"])
def test_dtypes_are_little_endian(dtype: str) -> None:
    found = make(dtype=dtype).numpy_dtype
    assert found == np.dtype("<M8[us]" if dtype == "timestamp" else dtype)
    assert found.str[0] in "<|"


@pytest.mark.parametrize(
    "values, fixed, nbytes, stored",
    [
        ({}, False, 1, 1),
        ({"dtype": "float64", "shape": (2, 3)}, True, 48, 48),
        ({"shape": (None, 3)}, False, 0, 0),
        ({"shape": (2, 2, 3), "codec": "image"}, False, 12, 12),
        ({"shape": (5,), "codec": "raw"}, True, 5, 5),
        ({"dtype": "float64", "shape": (2, 3), "codec": "float16"}, True, 48, 12),
        ({"dtype": "float32", "shape": (2, 3), "codec": "bfloat16"}, True, 24, 12),
        ({"dtype": "float64", "shape": (2, 3), "codec": "int8"}, True, 48, 10),
        ({"dtype": "float32", "shape": (2, 3), "codec": "zfp"}, False, 24, 24),
        ({"dtype": "float32", "shape": (None, 3), "codec": "float16"}, False, 0, 0),
    ],
)
def test_which_values_are_of_one_width(values: dict[str, Any], fixed: bool, nbytes: int, stored: int) -> None:
    field = make(**values)
    assert (field.fixed, field.nbytes, field.stored_nbytes) == (fixed, nbytes, stored)


def test_a_schema_survives_json() -> None:
    schema = Schema(
        fields=(make(shape=(None, 3), nullable=True), make(name="y", shape=(4,), codec="raw"), make(name="z", dtype="string"))
    )
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


def test_a_suggestion_of_many_names_is_short() -> None:
    names = [f"column_{number}" for number in range(5000)]
    text = suggest("colunm_7", names)
    assert text.startswith("did you mean 'column_7'? known: column_0, column_1,")
    assert text.endswith("column_49, … (5000 in all)")
