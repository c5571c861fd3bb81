"""What stock Petastorm makes of values that were encoded at write, as `stock_petastorm_form` says before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from shardwright.codecs import ValueCodec, encode_value, stored_field
from shardwright.codecs.options import BFloat16, Float16, Int8, Jpeg, JpegXl, Png, WebP, Zfp
from shardwright.format.compression import ColumnCodec
from shardwright.format.petastorm import stock_petastorm_form
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.petastorm.conftest import Oracle

ROWS = 6
FLOATS = Field(name="x", dtype="float64", shape=(2, 3))
PICTURES = Field(name="x", dtype="uint8", shape=(24, 32, 3))
CODECS: dict[str, tuple[Field, ValueCodec, str | None]] = {
    "half": (FLOATS, Float16(), "a float16 array"),
    "ragged_half": (FLOATS.model_copy(update={"shape": (None, 3)}), Float16(), "a float16 array"),
    "brain": (FLOATS, BFloat16(), "the stored bytes of the codec 'bfloat16'"),
    "scaled": (FLOATS, Int8(), "the stored bytes of the codec 'int8'"),
    "bounded": (FLOATS, Zfp(), "the stored bytes of the codec 'zfp'"),
    "jpeg": (PICTURES, Jpeg(quality=95), None),
    "png": (PICTURES, Png(), None),
    "grey": (PICTURES.model_copy(update={"shape": (24, 32, 1)}), Png(), None),
    "deep": (PICTURES.model_copy(update={"dtype": "uint16"}), Png(), None),
    "webp": (PICTURES, WebP(lossless=True), None),
    "xl": (PICTURES, JpegXl(), "the stored bytes of a JPEG XL picture"),
}
FIELDS = {name: stored_field(field.model_copy(update={"name": name}), codec) for name, (field, codec, _) in CODECS.items()}


def value(name: str, row: int) -> np.ndarray:
    field = FIELDS[name]
    shape = tuple(size or row for size in field.shape)
    rng = np.random.default_rng(row)
    if field.dtype == "float64":
        return rng.normal(size=shape)
    return (np.cumsum(rng.integers(0, 3, shape), axis=0) + 40 * row).astype(field.dtype)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("codecs") / "d"
    data: dict[str, Any] = {name: [value(name, row) for row in range(ROWS)] for name in FIELDS}
    schema = Schema(fields=(Field(name="id", dtype="int64"), Field(name="text", dtype="string"), *FIELDS.values()))
    data |= {"id": np.arange(ROWS), "text": [f"text {row}" for row in range(ROWS)]}
    publish(
        root, {"train": data}, schema, shards=2, part_samples=2,
        compressed={"id": ColumnCodec(name="lz4"), "text": ColumnCodec(name="brotli"), "half": ColumnCodec(name="gzip")},
    )  # fmt: skip
    return root / "v000001/train"


def test_what_is_said_before_the_run() -> None:
    assert {name: stock_petastorm_form(field) for name, field in FIELDS.items()} == {
        name: form for name, (_, _, form) in CODECS.items()
    }
    kept = Field.model_validate({"name": "x", "dtype": "uint8", "shape": (None, None, 3), "codec": "image"})
    raw = Field.model_validate({"name": "x", "dtype": "uint8", "shape": (3,), "codec": "raw"})
    assert stock_petastorm_form(raw) == "the stored bytes of the codec 'raw'"
    assert [stock_petastorm_form(field) for field in (kept, FLOATS, Field(name="x", dtype="string"))] == [None] * 3


def test_stock_petastorm_reads_every_codec(split: Path, petastorm_oracle: Oracle) -> None:
    rows = petastorm_oracle(split, "reader")
    assert [(row["id"], row["text"]) for row in rows] == [(i, f"text {i}") for i in range(ROWS)]
    for i, row in enumerate(rows):
        for name in ("half", "ragged_half"):
            assert row[name].dtype == "float16"
            assert np.array_equal(row[name], value(name, i).astype("f2"))
        for name in ("brain", "scaled", "bounded", "xl"):
            assert row[name] == encode_value(FIELDS[name], value(name, i)), name
        for name in ("png", "deep", "webp"):
            assert row[name].dtype == FIELDS[name].dtype
            assert np.array_equal(row[name], value(name, i)), name
        assert np.array_equal(row["grey"], value("grey", i)[..., 0])
        expected = np.asarray(imagecodecs.jpeg8_decode(encode_value(FIELDS["jpeg"], value("jpeg", i)))).astype(int)
        assert np.abs(row["jpeg"] - expected).max() <= 3  # another build of the decoder


def test_stock_petastorm_in_batches_gives_the_stored_bytes(split: Path, petastorm_oracle: Oracle) -> None:
    for i, row in enumerate(petastorm_oracle(split, "batch")):
        for name, field in FIELDS.items():
            assert row[name] == encode_value(field, value(name, i)), name
