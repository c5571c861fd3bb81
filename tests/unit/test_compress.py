"""What compression is configured to do, and what is measured of it: beside NumPy and exact fractions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from shardwright.errors import CompressionError
from shardwright.format.compression import ColumnCodec
from shardwright.format.manifest import Compression
from shardwright.format.values import Values
from shardwright.schema import Field, Schema
from shardwright.stages.compress import CompressionSums, CompressOptions, FieldCompression, check_bounds, value_bytes

SCHEMA = Schema(
    fields=(
        Field(name="image", dtype="uint8", shape=(8, 8, 3)),
        Field(name="vector", dtype="float32", shape=(4,)),
        Field(name="label", dtype="int64"),
        Field(name="word", dtype="string"),
    )
)


def options(**fields: Any) -> CompressOptions:
    return CompressOptions.model_validate({"fields": fields})


def test_a_name_alone_or_a_table() -> None:
    found = CompressOptions.model_validate(
        {
            "columns": {"codec": "gzip", "level": 2},
            "fields": {
                "label": "zstd",
                "word": {"codec": "zlib", "level": 9},
                "image": {"codec": "jpeg", "quality": 80, "min_psnr": 30},
            },
        }
    )
    assert found.columns == ColumnCodec(name="gzip", level=2)
    assert found.column_codecs == {"label": ColumnCodec(name="zstd"), "word": ColumnCodec(name="gzip", level=9)}
    image = found.fields["image"]
    assert image.named == ("jpeg", {"quality": 80, "subsampling": "420"})
    assert image.min_psnr == 30
    assert found.stored(SCHEMA["image"]).is_image
    assert found.stored(SCHEMA["label"]) == SCHEMA["label"]
    assert found.stored(SCHEMA["vector"]) == SCHEMA["vector"]
    assert CompressOptions.model_validate({"columns": "snappy"}).columns == ColumnCodec(name="snappy")
    again = CompressOptions.model_validate_json(found.model_dump_json())
    assert again.model_dump() == found.model_dump()
    assert found.model_dump(mode="json")["fields"]["word"] == {"codec": "gzip", "level": 9}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fields": {"image": "jpg"}}, "no codec 'jpg'; did you mean 'jpeg'"),
        ({"fields": {"image": {"codec": "jpeg", "quality": 101}}}, "quality: input should be less than or equal to 100, found"),
        ({"fields": {"image": {"codec": "jpeg", "qualty": 90}}}, "qualty: codec 'jpeg' has no such parameter"),
        ({"fields": {"label": {"codec": "zstd", "level": 40}}}, "zstd has the levels 1 to 22, found 40"),
        ({"fields": {"image": {"codec": "jpeg", "min_psnr": -1}}}, "greater than 0"),
        ({"fields": {"image": 3}}, "valid dictionary"),
        ({"columns": "jpeg"}, "expected one of zstd, gzip, zlib, lz4, snappy, brotli, none and a level"),
        ({"columns": {"codec": "zstd", "min_ratio": 2}}, "what is for one field goes to [compress.fields]"),
    ],
)  # fmt: skip
def test_options_that_can_not_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        CompressOptions.model_validate(given)
    assert message in str(error.value)


def test_fields_that_a_codec_does_not_take() -> None:
    wanted = options(
        imagee="png", vector="jpeg", label="zfp", word={"codec": "zstd", "max_error": 1},
        image={"codec": "png", "min_psnr": 30},
    )  # fmt: skip
    problems = wanted.problems(SCHEMA)
    assert problems[0] == "compress.fields: no field 'imagee'; did you mean 'image'? known: image, vector, label, word"
    assert problems[1].startswith("compress.fields.vector: jpeg takes uint8, grey or RGB")
    assert problems[2] == "compress.fields.label: codec 'zfp' is for arrays; a number is compressed by its column"
    assert problems[3] == "compress.fields.word: nothing is lost, so leave out max_error and min_psnr"
    assert problems[4] == "compress.fields.image: nothing is lost, so leave out max_error and min_psnr"
    assert options(vector={"codec": "float16", "min_psnr": 3}).problems(SCHEMA) == [
        "compress.fields.vector: min_psnr is for pictures of uint8 or uint16, found float32; use max_error"
    ]
    assert options(vector={"codec": "float16", "max_error": 3}, image={"codec": "jpeg", "min_psnr": 3}).problems(SCHEMA) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["a", None, "äb"]), 4),
        (pa.array([b"abc", b""]), 3),
        (pa.array([1, None, 3], pa.int32()), 8),
        (pa.array([True, False]), 2),
        (pa.array([0, 1], pa.timestamp("us")), 16),
        (np.zeros((2, 3), "f4"), 24),
        ([np.zeros((5, 1), "i2"), None, np.zeros((0, 1), "i2")], 10),
    ],
)
def test_bytes_of_values(values: Values, expected: int) -> None:
    assert value_bytes(values) == expected


def measured(
    field: Field,
    pairs: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
    how: FieldCompression,
    stored_bytes: int = 10,
) -> Compression:
    sums = CompressionSums(field, lossy=True)
    for before, after in pairs:
        part = CompressionSums(field, lossy=True)
        part.update(before, after)
        sums.merge(json.loads(json.dumps(part.to_json())))
    return sums.finish(how, stored_bytes)


@given(st.data())
def test_error_of_pictures_is_exact_however_it_is_cut(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["uint8", "uint16"]))
    before, after = (data.draw(arrays(dtype, (6, 2, 2))) for _ in range(2))
    field = Field(name="x", dtype=dtype, shape=(2, 2))
    how = FieldCompression.model_validate("jpegxl")
    whole = measured(field, [(before, after)], how)
    cut = data.draw(st.integers(1, 5))
    assert measured(field, [(before[cut:], after[cut:]), (before[:cut], after[:cut])], how) == whole
    difference = before.astype(int) - after.astype(int)
    assert whole.max_error == np.abs(difference).max()
    mean = Fraction(int((difference**2).sum()), difference.size)
    assert whole.rmse == pytest.approx(math.sqrt(mean), rel=1e-15)
    if mean:
        peak = np.iinfo(dtype).max
        assert whole.psnr == round(10 * math.log10(peak**2 / mean), 4)
    else:
        assert whole.psnr is None
    assert whole.raw_bytes == before.nbytes


@given(st.data())
def test_error_of_floats_is_exact_however_it_is_cut(data: st.DataObject) -> None:
    before = data.draw(arrays("f4", (40, 2), elements=st.floats(-1e9, 1e9, width=32)))
    after = before.astype("f2").astype("f4") if np.abs(before).max() < 6e4 else np.round(before, -2)
    field = Field(name="x", dtype="float32", shape=(2,))
    how = FieldCompression.model_validate("float16")
    whole = measured(field, [(before, after)], how)
    assert measured(field, [(before[9:], after[9:]), (before[:9], after[:9])], how) == whole
    difference = after.astype("f8") - before.astype("f8")
    assert whole.max_error == np.abs(difference).max()
    exact = sum((Fraction(value) ** 2 for value in difference.ravel().tolist()), Fraction(0)) / difference.size
    assert whole.rmse == pytest.approx(math.sqrt(exact), rel=1e-15)
    assert whole.psnr is None


def test_what_is_not_finite_comes_back_as_it_was() -> None:
    field = Field(name="x", dtype="float32", shape=(3,))
    values = np.array([[np.nan, np.inf, 1]], "f4")
    found = measured(field, [(values, values + np.float32(0.5))], FieldCompression.model_validate("bfloat16"))
    assert found.max_error == 0.5


def test_nothing_measured_of_no_values() -> None:
    sums = CompressionSums(Field(name="x", dtype="uint8", shape=(None, 2), nullable=True), lossy=True)
    sums.update([None], [None])
    found = sums.finish(FieldCompression.model_validate("webp"), 0)
    assert (found.raw_bytes, found.max_error, found.rmse, found.psnr) == (0, 0.0, 0.0, None)


def test_bounds_that_do_not_hold_are_all_told() -> None:
    wanted = options(
        image={"codec": "jpeg", "min_psnr": 40, "min_ratio": 5},
        vector={"codec": "zfp", "tolerance": 0.1, "max_error": 0.01},
        label={"codec": "zstd", "min_ratio": 1},
    )
    raw = {"raw_bytes": 1000, "stored_bytes": 400}
    found = {
        "image": Compression(codec="jpeg", level="value", max_error=30, rmse=4, psnr=33.5, **raw),
        "vector": Compression(codec="zfp", level="value", max_error=0.06, rmse=0.01, **raw),
        "label": Compression(codec="zstd", level="column", **raw),
    }
    with pytest.raises(CompressionError) as error:
        check_bounds(wanted, found)
    assert str(error.value) == (
        "nothing was published: "
        "compress.fields.image (jpeg): min_psnr 40 dB is not reached: 33.5 dB; raise the quality, or lower the bound; "
        "compress.fields.image (jpeg): min_ratio 5 is not reached: 1,000 bytes became 400, 2.5 times less; choose a stronger "
        "codec, or lower the bound; "
        "compress.fields.vector (zfp): max_error 0.01 is exceeded: an element is off by 0.06; raise the bound, or choose a "
        "finer codec"
    )
    holds = options(image={"codec": "jpeg", "min_psnr": 33.5, "min_ratio": 2.5}, vector={"codec": "zfp", "max_error": 0.06})
    check_bounds(holds, found)
