"""Clean: what passes, what is rejected and why, and that no sample is ever lost."""

from __future__ import annotations

import datetime
import io
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shardwright.errors import SchemaError
from shardwright.format.layout import sample_type
from shardwright.schema import Field, Schema
from shardwright.stages import Rejects
from shardwright.stages.clean import Clean, CleanOptions

PHOTOS = Path(__file__).parents[2] / "data/samples/photos"
NULL = "null in a field that is not nullable"


def clean(field: Field, array: pa.Array, **options: Any) -> tuple[list[Any], dict[int, str]]:
    """The kept values, and the reasons by row; checks on the way what holds for every batch."""
    sources = pa.array([f"s{row}" for row in range(len(array))])
    batch = pa.RecordBatch.from_arrays([array, sources], names=[field.name, "_source"])
    out, rejects = Clean(Schema(fields=(field,)), CleanOptions(**options))(batch)
    assert out.schema.names == [field.name, "_source"]
    assert out[field.name].type == sample_type(field)
    out.validate(full=True)
    assert rejects.rows == sorted(set(rejects.rows))
    assert set(rejects.fields) <= {field.name}
    assert len(rejects.rows) == len(rejects.fields) == len(rejects.reasons)
    kept = [row for row in range(len(array)) if row not in set(rejects.rows)]
    assert out["_source"].to_pylist() == [f"s{row}" for row in kept]
    return out[field.name].to_pylist(), dict(zip(rejects.rows, rejects.reasons, strict=True))


def number(dtype: str, **more: Any) -> Field:
    return Field.model_validate({"name": "x", "dtype": dtype, **more})


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NUMBER_CASES: list[tuple[str, pa.Array, list[Any], dict[int, str]]] = [
    ("int8", pa.array([1, 300, None]), [1], {1: "300 is outside [-128, 127]", 2: NULL}),
    ("uint8", pa.array([-1, 255]), [255], {0: "-1 is outside [0, 255]"}),
    ("uint64", pa.array([-1, 2**62]), [2**62], {0: f"-1 is outside [0, {2**64 - 1}]"}),
    ("int64", pa.array([2**63, 5], pa.uint64()), [5], {0: f"{2**63} is outside [{-(2**63)}, {2**63 - 1}]"}),
    ("int32", pa.array([1.0, 2.5, math.nan]), [1], {1: "2.5 is no int32", 2: "NaN or infinity"}),
    ("int64", pa.array([2.0**63, -(2.0**63)]), [-(2**63)], {0: f"9.223372036854776e+18 is outside [{-(2**63)}, {2**63 - 1}]"}),
    ("float32", pa.array([0.1, 1e300, math.inf]), [float(np.float32(0.1))], {1: "1e+300 is no float32", 2: "NaN or infinity"}),
    ("float32", pa.array([2**24, 2**24 + 1]), [2.0**24], {1: "16777217 is no float32"}),
    ("float64", pa.array([2**63 - 1, 2**53]), [2.0**53], {0: f"{2**63 - 1} is no float64"}),
    ("float64", pa.array([2**64 - 1, 1], pa.uint64()), [1.0], {0: f"{2**64 - 1} is no float64"}),
    ("float16", pa.array([70_000, 1]), [1.0], {0: "70000 is no float16"}),
    ("bool", pa.array([0, 1, 2]), [False, True], {2: "2 is no bool"}),
    ("uint8", pa.array([True, False]), [1, 0], {}),
    ("float16", pa.array([True, None]), [1.0], {1: NULL}),
    ("int8", pa.array(["7"]), [], {0: "expected int8, found string"}),
    ("int8", pa.nulls(2), [], {0: NULL, 1: NULL}),
    ("int8", pa.array([1, 2]).dictionary_encode(), [1, 2], {}),
]


@pytest.mark.parametrize(("dtype", "array", "kept", "reasons"), NUMBER_CASES)
def test_numbers_fit_their_dtype_or_are_rejected(dtype: str, array: pa.Array, kept: list, reasons: dict[int, str]) -> None:
    assert clean(number(dtype), array) == (kept, reasons)


def test_nullable_numbers_keep_their_nulls() -> None:
    assert clean(number("int8", nullable=True), pa.array([1, None, 300])) == ([1, None], {2: "300 is outside [-128, 127]"})
    assert clean(number("int8", nullable=True), pa.nulls(2)) == ([None, None], {})
    null_below_range = clean(number("int8", nullable=True), pa.array([7, None], pa.int8()), range={"x": (5, 9)})
    assert null_below_range == ([7, None], {})


def test_range_and_non_finite() -> None:
    values = pa.array([0.0, 1.0, 1.5, math.nan, -math.inf])
    non_finite = "NaN or infinity"
    assert clean(number("float64"), values, range={"x": (0, 1)})[1] == {
        2: "1.5 is outside [0, 1]",
        3: non_finite,
        4: non_finite,
    }
    kept, reasons = clean(number("float64"), values, non_finite="keep", range={"x": (0, 1)})
    assert str(kept) == "[0.0, 1.0, nan]"
    assert reasons == {2: "1.5 is outside [0, 1]", 4: "-inf is outside [0, 1]"}
    assert clean(number("float64"), values, non_finite="keep")[1] == {}
    assert clean(number("int64"), pa.array([2**62, 2**62 + 1]), range={"x": (0, 2**62)})[0] == [2**62]


def test_a_field_that_is_encoded_at_write_is_refused() -> None:
    half = number("float32", shape=(3,), codec="float16")
    with pytest.raises(SchemaError, match=r"field 'x': .* how they are encoded at write is said in \[compress\], not by the"):
        Clean(Schema(fields=(half,)))


def test_a_range_that_can_not_be_is_told() -> None:
    schema = Schema(fields=(number("int8"), Field(name="text", dtype="string")))
    with pytest.raises(SchemaError, match=r"clean.range: no field 'y'; known: x, text"):
        Clean(schema, CleanOptions(range={"y": (0, 1)}))
    with pytest.raises(SchemaError, match=r"clean.range: field 'text' has no range \(it holds string\); leave it out"):
        Clean(schema, CleanOptions(range={"text": (0, 1)}))
    with pytest.raises(ValidationError, match=r"x: expected \[smallest, largest\], found \[2, 1\]"):
        CleanOptions(range={"x": (2, 1)})
    with pytest.raises(ValidationError, match=r"less than or equal to 1"):
        CleanOptions(max_rejected=1.5)


def test_fixed_bytes_without_a_range_are_passed_on_untouched() -> None:
    field = number("uint8", shape=(2, 2))
    batch = pa.RecordBatch.from_arrays([pa.array([b"abcd", b"efgh"], pa.binary(4))], names=["x"])
    out, rejects = Clean(Schema(fields=(field,)), CleanOptions(range={"x": (0, 255)}))(batch)
    assert rejects == Rejects()
    assert out["x"].buffers()[1].address == batch["x"].buffers()[1].address
    assert clean(field, batch["x"], range={"x": (0, 101)})[1] == {1: "102 is outside [0, 101]"}
    assert clean(field, batch["x"], range={"x": (97, 101)}) == ([b"abcd"], {1: "102 is outside [97, 101]"})
    assert clean(field, pa.array([b"abcd", None], pa.binary(4)), range={"x": (1, 255)}) == ([b"abcd"], {1: NULL})
    assert clean(field, pa.array([b"abc"], pa.binary(3))) == ([], {0: "expected 4 bytes for uint8 (2, 2), found 3"})


def test_float_arrays_are_checked_for_nan() -> None:
    values = np.array([[1, 2], [3, np.nan]], "<f4")
    array = pa.array([row.tobytes() for row in values], pa.binary(8))
    assert clean(number("float32", shape=(2,)), array) == ([values[0].tobytes()], {1: "NaN or infinity"})


def test_cells_and_raw_bytes_become_fixed_bytes() -> None:
    field = number("uint16", shape=(2, 3))
    images = np.arange(12, dtype="<u2").reshape(2, 2, 3)
    raw = [image.tobytes() for image in images]
    assert clean(field, pa.array(raw)) == (raw, {})
    assert clean(field, pa.array([npy(image) for image in images])) == (raw, {})
    assert clean(field, pa.array([npy(image) for image in images]).slice(1)) == (raw[1:], {})
    cells = [
        npy(images[0]), raw[1], npy(np.asfortranarray(images[1])), npy(images[1].astype(">u2")), None, raw[0][:-1],
        npy(images[0][:1]), npy(images[0].astype("i2")), npy(np.array([{}])), npy(images[0])[:-1], b"\x93NUMPY", b"",
    ]  # fmt: skip
    kept, reasons = clean(field, pa.array(cells))
    assert kept == [raw[0], raw[1], raw[1], raw[1]]
    assert reasons[4] == NULL
    assert reasons[5] == "expected 12 bytes for uint16 (2, 3), found 11"
    assert reasons[6] == "expected shape (2, 3), found (1, 3)"
    assert reasons[7] == "expected dtype uint16, found int16"
    assert reasons[8].startswith("not a numpy.save cell (Object arrays cannot be loaded")
    assert all(reasons[row].startswith("not a numpy.save cell (") for row in (9, 10))
    assert reasons[11] == "expected 12 bytes for uint16 (2, 3), found 0"


def test_a_cell_of_another_shape_is_no_raw_value_of_the_same_length() -> None:
    cell = npy(np.zeros(128, np.uint8))
    assert clean(number("uint8", shape=(256,)), pa.array([cell])) == ([], {0: "expected shape (256,), found (128,)"})


def test_lists_become_fixed_bytes() -> None:
    field = number("uint8", shape=(2, 2))
    flat = pa.array([[1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 256], None, [1, None, 3, 4]])
    assert clean(field, flat) == (
        [bytes([1, 2, 3, 4])],
        {1: "expected shape (2, 2), found (3,)", 2: "256 is outside [0, 255]", 3: NULL, 4: "a null inside the array"},
    )
    nested = pa.array([[[1, 2], [3, 4]], [[1, 2], None], [[5, 6], [7, 8]]], pa.list_(pa.list_(pa.int32(), 2), 2))
    assert clean(field, nested) == ([bytes([1, 2, 3, 4]), bytes([5, 6, 7, 8])], {1: "a null inside the array"})
    assert clean(field, nested.slice(2)) == ([bytes([5, 6, 7, 8])], {})
    hidden = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4]), 2, mask=pa.array([False, True]))
    over_values = pa.FixedSizeListArray.from_arrays(hidden, 2)
    assert clean(field, over_values) == ([], {0: "a null inside the array"})
    assert clean(field, pa.array([], pa.list_(pa.int64()))) == ([], {})
    gap = pa.array([[1.0, None]], pa.list_(pa.float32(), 2))
    assert clean(number("float32", shape=(2,)), gap, non_finite="keep") == ([], {0: "a null inside the array"})
    assert clean(field, pa.array([[["a"]]])) == ([], {0: "expected uint8 (2, 2), found list<item: list<item: string>>"})
    vector = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    assert clean(number("float32", shape=(2,)), vector) == ([np.array([1, 2], "<f4").tobytes()], {})
    assert clean(number("bool", shape=(2,)), pa.array([[True, False]])) == ([b"\x01\x00"], {})


def test_ragged_and_nullable_arrays_become_cells() -> None:
    ragged = number("int16", shape=(None,))
    kept, reasons = clean(ragged, pa.array([[1, 2], [], [70_000], None]))
    assert [np.load(io.BytesIO(cell)).tolist() for cell in kept] == [[1, 2], []]
    assert reasons == {2: "70000 is outside [-32768, 32767]", 3: NULL}
    kept, reasons = clean(ragged, pa.array([npy(np.arange(3, dtype="i2")), b"raw bytes"]), range={"x": (0, 9)})
    assert kept == [npy(np.arange(3, dtype="i2"))]
    assert reasons == {1: "expected a numpy.save cell of shape (?,), found bytes that begin with b'raw byte'"}
    assert clean(ragged, pa.array([[1], [11]]), range={"x": (0, 9)})[1] == {1: "11 is outside [0, 9]"}
    kept, reasons = clean(number("uint8", shape=(2,), nullable=True), pa.array([b"ab", None, b"abc"]))
    assert kept == [npy(np.frombuffer(b"ab", np.uint8)), None]
    assert reasons == {2: "expected 2 bytes for uint8 (2,), found 3"}


def test_pictures_are_decoded() -> None:
    jpeg, png = ((PHOTOS / name).read_bytes() for name in ("town/coffee.jpg", "nature/chelsea.png"))
    field = number("uint8", shape=(None, None, 3), codec="image")
    pictures = pa.array([jpeg, png, jpeg[: len(jpeg) // 2], png[:1000], b"hello", b"", None])
    kept, reasons = clean(field, pictures)
    assert kept == [jpeg, png]
    assert reasons[2] == "a jpeg cut short: it has no end marker"
    assert reasons[3].startswith("a damaged png (")
    assert reasons[4] == "not a jpeg, png, webp, jpegxl picture (it begins with b'hello')"
    assert reasons[6] == NULL
    assert set(clean(field, pictures, decode=False)[1]) == {2, 4, 5, 6}
    sized = number("uint8", shape=(400, 600, 3), codec="image")
    assert clean(sized, pa.array([jpeg, png]))[1] == {1: "expected shape (400, 600, 3), found (300, 451, 3)"}


def test_the_end_marker_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    jpeg = (PHOTOS / "town/coffee.jpg").read_bytes()
    thumbnail = b"\xff\xe1" + (2 + len(b"\xff\xd8\xff\xda\x00\xff\xd9")).to_bytes(2, "big") + b"\xff\xd8\xff\xda\x00\xff\xd9"
    whole = jpeg[:2] + b"\xff" + thumbnail + jpeg[2:]
    field = number("uint8", shape=(None, None, 3), codec="image")
    assert clean(field, pa.array([whole, whole[:-100]])) == ([whole], {1: "a jpeg cut short: it has no end marker"})


def test_strings_are_utf8_and_bytes_are_bytes() -> None:
    data = pa.array([b"a", b"\xff", None, "ä".encode()])
    wrong = pa.Array.from_buffers(pa.string(), 4, data.buffers())
    for array in (data, wrong, data.slice(0)):
        assert clean(number("string"), array) == (["a", "ä"], {1: "a string that is not UTF-8: b'\\xff'", 2: NULL})
    assert clean(number("string", nullable=True), data)[0] == ["a", None, "ä"]
    assert clean(number("bytes"), pa.array([b"ab", b"cd"], pa.binary(2))) == ([b"ab", b"cd"], {})
    assert clean(number("string"), pa.array([1])) == ([], {0: "expected string, found int64"})


def test_timestamps_are_microseconds() -> None:
    epoch = datetime.datetime.fromtimestamp(0, datetime.UTC).replace(tzinfo=None)
    kept, reasons = clean(number("timestamp"), pa.array([0, 1, 1000, None], pa.timestamp("ns", tz="Asia/Tokyo")))
    assert kept == [epoch, epoch + datetime.timedelta(microseconds=1)]
    assert reasons == {1: "a time with a fraction of a microsecond", 3: NULL}
    assert clean(number("timestamp"), pa.array([1, 2**60], pa.timestamp("s"))) == (
        [epoch + datetime.timedelta(seconds=1)],
        {1: "a time out of the range of microseconds"},
    )


def test_the_first_bad_field_names_the_reason_and_other_columns_pass_through() -> None:
    schema = Schema(fields=(number("int8"), Field(name="y", dtype="int8")))
    batch = pa.RecordBatch.from_pydict({"y": [1, 500, 600], "_key": [b"a", b"b", b"c"], "x": [1, 400, 2], "unused": [0, 0, 0]})
    out, rejects = Clean(schema)(batch)
    assert out.to_pydict() == {"x": [1], "y": [1], "_key": [b"a"]}
    assert (rejects.rows, rejects.fields) == ([1, 2], ["x", "y"])


VALUES = st.one_of(st.none(), st.integers(-300, 300), st.floats(width=32), st.booleans())
CELLS = st.one_of(
    st.none(),
    st.binary(max_size=8),
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=140).map(b"\x93NUMPY\x01\x00".__add__),
    st.lists(st.integers(0, 255), min_size=4, max_size=4).map(lambda v: npy(np.array(v, np.uint8).reshape(2, 2))),
    st.lists(st.integers(0, 255), max_size=5).map(lambda v: npy(np.array(v, np.uint8))),
)
LISTS = st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-9, 300)), max_size=5), st.just([1, 2, 3, 4]))
COLUMNS = st.one_of(
    st.tuples(st.sampled_from(["int8", "uint8", "float16", "float32", "bool", "uint64"]).map(number), st.lists(
        VALUES.map(lambda v: None if v is None else float(v)), max_size=12).map(lambda v: pa.array(v, pa.float64()))),
    st.tuples(
        st.sampled_from([number("uint8", shape=(2, 2)), number("uint8", shape=(2, 2), nullable=True),
                         number("uint8", shape=(None, None)), number("string"), number("bytes"),
                         number("uint8", shape=(None, None, 3), codec="image")]),
        st.lists(CELLS, max_size=12).map(lambda v: pa.array(v, pa.binary()))),
    st.tuples(
        st.sampled_from([number("uint8", shape=(2, 2)), number("int64", shape=(None,)), number("float16", shape=(4,))]),
        st.lists(LISTS, max_size=12).map(lambda v: pa.array(v, pa.list_(pa.int64())))),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(COLUMNS, st.lists(st.integers(0, 12), max_size=4))
def test_no_sample_is_lost_and_batches_cut_anywhere_give_the_same(column: tuple[Field, pa.Array], cuts: list[int]) -> None:
    field, array = column
    kept, reasons = clean(field, array)
    assert len(kept) + len(reasons) == len(array)
    borders = sorted({0, len(array), *(min(cut, len(array)) for cut in cuts)})
    kept_cut: list[Any] = []
    reasons_cut: dict[int, str] = {}
    for start, stop in itertools.pairwise(borders):
        some, why = clean(field, array.slice(start, stop - start))
        kept_cut += some
        reasons_cut |= {row + start: reason for row, reason in why.items()}
    assert str(kept_cut) == str(kept)
    assert reasons_cut == reasons


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=12), st.sampled_from(["int8", "uint16", "int64", "float32", "float64"]))
def test_what_is_kept_is_what_came_in(values: list[Any], dtype: str) -> None:
    floats = [None if value is None else float(value) for value in values]
    kept, reasons = clean(number(dtype), pa.array(floats, pa.float64()))
    passed = [value for row, value in enumerate(floats) if row not in reasons]
    assert kept == [float(np.float32(value)) if dtype == "float32" and value is not None else value for value in passed]
    for row in reasons:
        value = floats[row]
        good = value is not None and math.isfinite(value)
        if good and dtype.startswith(("int", "uint")):
            assert value is not None
            assert value != int(value) or not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
        else:
            assert not good
