"""A team's own functions: what they get, what they may give back, and that whatever they do no sample is lost."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import ConfigError
from shardwright.format.layout import KEY
from shardwright.schema import Field, Schema
from shardwright.stages import SOURCE, Rejects
from shardwright.stages.clean import Clean, CleanOptions
from shardwright.stages.map import MapOptions, UserMap, code_sha256, load_function, mapped_schema
from shardwright.stages.read import AddKeys
from tests.conftest import SAMPLES

SCHEMA = Schema(fields=(Field(name="x", dtype="float32"), Field(name="number", dtype="int64")))
HERE = "tests.unit.own_functions"


def samples(numbers: list[int]) -> pa.RecordBatch:
    """Cleaned samples with keys and sources."""
    raw = pa.RecordBatch.from_pydict(
        {
            "x": pa.array([float(n) for n in numbers], pa.float32()),
            "number": pa.array(numbers, pa.int64()),
            SOURCE: pa.array([f"in#{n}" for n in numbers], pa.string()),
        }
    )
    return clean(AddKeys(SCHEMA)(raw)[0], SCHEMA)


def clean(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    return Clean(schema)(batch)[0]


def user_map(function: str, schema: Schema = SCHEMA, **tables: Any) -> UserMap:
    return UserMap(
        schema, MapOptions(function=f"{HERE}:{function}", **tables), functools.partial(Clean, options=CleanOptions())
    )


def run(function: str, numbers: list[int], **tables: Any) -> tuple[pa.RecordBatch, Rejects]:
    return user_map(function, **tables)(samples(numbers))


def test_what_it_changes_and_what_it_leaves() -> None:
    out, rejects = run("double", [1, 2, 3], options={"by": 3})
    assert out.schema.names == ["x", "number", SOURCE, KEY]
    assert out["x"].to_pylist() == [3.0, 6.0, 9.0]
    assert out["x"].type == pa.float32()
    assert out["number"].to_pylist() == [1, 2, 3]
    assert out[KEY] == samples([1, 2, 3])[KEY]  # made before
    assert rejects == Rejects()


def test_new_fields_of_every_kind() -> None:
    fields = {
        "vector": {"dtype": "float32", "shape": [2]}, "ragged": {"dtype": "int16", "shape": [None]},
        "word": {"dtype": "string"}, "flag": {"dtype": "bool"}, "time": {"dtype": "timestamp"},
    }  # fmt: skip
    stage = user_map("add_fields", fields=fields, drop=("x",))
    assert stage.schema.names == ("number", "vector", "ragged", "word", "flag", "time")
    out, rejects = stage(samples([0, 4]))
    assert not rejects.rows
    assert np.frombuffer(out["vector"][1].as_py(), "<f4").tolist() == [4.0, 5.0]
    assert out["ragged"][1].as_py().endswith(b"\x00\x00\x01\x00")
    assert out["word"].to_pylist() == ["w0", "w4"]
    assert out["flag"].to_pylist() == [True, True]
    assert str(out["time"][0].as_py()) == "2026-01-02 00:00:00"
    empty, _ = stage(samples([0]).slice(0, 0))
    assert empty.schema == out.schema


def test_a_batch_that_is_changed_and_given_back() -> None:
    batch = samples([1, 2])
    out, _ = user_map("everything_back")(batch)
    assert out["x"].to_pylist() == [2.0, 3.0]
    assert batch["x"].to_pylist() == [1.0, 2.0]  # it got a copy


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 9))
def test_only_the_samples_that_fail_are_rejected(numbers: list[int], bad: int) -> None:
    out, rejects = run("fail_on", numbers, options={"number": bad})
    assert rejects.rows == [row for row, number in enumerate(numbers) if number == bad]
    assert out["number"].to_pylist() == [number for number in numbers if number != bad]


def test_the_reason_names_error_and_line() -> None:
    _, rejects = run("fail_on", [1, 5], options={"number": 5})
    source = (Path(__file__).parent / "own_functions.py").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if "raise ValueError" in text)
    assert rejects.reasons == [f"{HERE}:fail_on: ValueError: can't take 5 (own_functions.py:{line})"]
    assert rejects.fields == [""]


def test_a_function_that_leaves() -> None:
    _, rejects = run("leave", [1])
    assert "SystemExit: enough" in rejects.reasons[0]


def test_keeping_and_rejecting() -> None:
    out, rejects = run("keep_and_reject", [0, 1, 2, 3, 4])
    assert out["number"].to_pylist() == [2, 4]
    assert (rejects.rows, rejects.reasons) == ([0], [f"{HERE}:keep_and_reject: a zero"])
    assert rejects.filtered == 2


def test_keys_are_given_to_who_asks() -> None:
    out, rejects = run("by_key", [3, 4])
    assert not rejects.rows
    keys = np.frombuffer(b"".join(out[KEY].to_pylist()), np.uint8).reshape(2, 16)
    assert out["x"].to_pylist() == keys[:, 0].tolist()


@pytest.mark.parametrize(
    "what, tables, reason",
    [
        ("a list", {}, r"expected a NumPy array in 'x', found list"),
        ("rows", {}, r"expected 1 rows in 'x', found 2"),
        ("shape", {}, r"expected float32 of shape \(n,\) in 'x', found float32 of shape \(n, 2\)"),
        ("strings", {}, r"expected float32 of shape \(n,\) in 'x', found object of shape \(n,\)"),
        ("infinity", {}, r"NaN or infinity"),
        ("unknown", {}, r"it returned 'y', which is no field; declare it in map\.fields"),
        ("nothing", {}, r"expected a dict of arrays, found NoneType"),
        ("numbers as words", {"fields": {"word": {"dtype": "string"}}}, r"expected str in 'word', found int"),
        ("flags", {}, r"expected bool of shape \(n,\) in '_keep', found int8 of shape \(n,\)"),
        ("reasons", {}, r"expected a str or None for each sample in '_reject', found int"),
        ("fraction", {}, r"0\.5 is no int64"),
        ("empty dict", {"fields": {"y": {"dtype": "int8"}}}, r"expected the field 'y' among what it returns, found nothing"),
    ],
)
def test_what_is_not_as_declared(what: str, tables: dict[str, Any], reason: str) -> None:
    out, rejects = run("returns", [0, 1], options={"what": what}, **tables)
    assert out.num_rows == 0
    assert rejects.rows == [0, 1]
    assert re.fullmatch(f"{HERE}:returns: {reason}.*", rejects.reasons[0])


def test_pictures_decoded() -> None:
    picture = next((SAMPLES / "photos").rglob("*.jpg")).read_bytes()
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(None, None, 3), codec="image"),))
    batch = pa.RecordBatch.from_pydict({"image": pa.array([picture, picture]), KEY: pa.array([b"0" * 16] * 2, pa.binary(16))})
    stage = user_map("brightness", schema, decode=("image",), fields={"mean": {"dtype": "float32"}})
    out, rejects = stage(batch)
    assert not rejects.rows, rejects.reasons
    assert out["image"].to_pylist() == [picture, picture]
    assert 0 < out["mean"][0].as_py() < 255


def test_nullable_fields_have_masks() -> None:
    fields = (
        Field(name="maybe", dtype="float32", nullable=True), Field(name="name", dtype="string", nullable=True),
        Field(name="number", dtype="int8"),
    )  # fmt: skip
    batch = pa.RecordBatch.from_pydict(
        {
            "maybe": pa.array([1, None, 3, 4], pa.float32()),
            "name": ["a", None, "c", "d"],
            "number": pa.array([0, 1, 2, 3], pa.int8()),
        }
    )
    schema = Schema(fields=fields)
    out, rejects = user_map("missing_values", schema)(batch)
    assert not rejects.rows, rejects.reasons
    assert out["maybe"].to_pylist() == [10, None, None, 40]
    assert out["name"].to_pylist() == ["a", None, "c", "d"]
    out, _ = UserMap(
        Schema(fields=(Field(name="x", dtype="float32", nullable=True),)), MapOptions(function=f"{HERE}:double"), Clean
    )(pa.RecordBatch.from_pydict({"x": pa.array([1, None], pa.float32())}))
    assert out["x"].to_pylist() == [2, None]  # the mask stays what it was


@pytest.mark.parametrize(
    "tables, problem",
    [
        ({"drop": ("y",)}, "drop: no field 'y'; known: x, number"),
        ({"drop": ("x",), "fields": {"x": {"dtype": "int8"}}}, "'x' is in fields and in drop; leave one out"),
        ({"decode": ("x",)}, "decode: 'x' is no field of pictures; there are: "),
        ({"fields": {"shard": {"dtype": "int8"}}}, "fields: shard: Value error, field 'shard': 'shard' and names that begin"),
        ({"fields": {"_keep": {"dtype": "bool"}}}, "fields: _keep: Value error, field '_keep': 'shard' and names that begin"),
        ({"fields": {"y": {"dtype": "int9"}}}, "fields: y.dtype: Input should be 'bool', 'int8'"),
        ({"fields": {"X": {"dtype": "int8"}}}, "fields named twice: X, x"),
        (
            {"fields": {"y": {"dtype": "int8", "nullable": True}, "y_mask": {"dtype": "bool"}}},
            "field 'y' can be null and its mask is called 'y_mask', which is a field too; rename one",
        ),
        ({"drop": ("x", "number")}, "a schema needs at least one field"),
    ],
)
def test_fields_that_can_not_be(tables: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mapped_schema(SCHEMA, MapOptions(function=f"{HERE}:double", **tables))
    assert caught.value.problems[0].startswith(f"[[map]] {HERE}:double: {problem}")


@pytest.mark.parametrize(
    "function, options, problem",
    [
        (
            "nowhere:f",
            {},
            r"can't be imported \(ModuleNotFoundError: No module named 'nowhere'\); is the module on .*--py-files",
        ),
        (f"{HERE}:duoble", {}, r"can't be imported \(AttributeError: .*did you mean 'double'"),
        (f"{HERE}:NOT_A_FUNCTION", {}, "expected a function, found int"),
        (f"{HERE}:double", {"bye": 3}, "options: got an unexpected keyword argument 'bye'"),
        (f"{HERE}:fail_on", {}, "options: missing a required argument: 'number'"),
        (f"{HERE}:by_key", {"keys": 1}, "options: 'keys' is what sample keys are given as; rename the option"),
    ],
)
def test_functions_that_can_not_be(function: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[\[map\]\] {function}: {problem}"):
        load_function(MapOptions(function=function, options=options))


def test_what_tells_code_from_other_code() -> None:
    assert code_sha256(f"{HERE}:double") == code_sha256(f"{HERE}:leave")
    assert code_sha256("tests.conftest:f") != code_sha256(f"{HERE}:leave")
    assert code_sha256("math:sqrt") is None
