"""A published dataset whose values or columns are encoded, read back through `open_dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardwright as sw
from shardwright.codecs import ValueCodec, decode_value, encode_value, stored_field
from shardwright.codecs.options import BFloat16, Float16, Int8, Jpeg, JpegXl, Png, WebP, Zfp
from shardwright.format.compression import ColumnCodec
from shardwright.schema import Field, Schema
from tests.datasets import publish

ROWS = 23
NUMBER = Field(name="id", dtype="int64")


def floats(dtype: str, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, *shape)).astype(dtype) * 10


def published(root: Path, stored: Field, values: Any, **options: Any) -> sw.Dataset:
    schema = Schema(fields=(stored, NUMBER))
    data = {stored.name: values, "id": np.arange(ROWS)}
    publish(root / "d", {"train": data}, schema, shards=2, remainder="spread", part_samples=7, row_group_samples=3, **options)
    return sw.open_dataset(str(root / "d"), split="train")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("codec", [Float16(), BFloat16(), Int8(), Zfp(tolerance=0.01)], ids=lambda codec: codec.codec)
def test_float_arrays(tmp_path: Path, codec: ValueCodec, dtype: str, compressed: bool) -> None:
    values = floats(dtype)
    stored = stored_field(Field.model_validate({"name": "x", "dtype": dtype, "shape": (3, 5)}), codec)
    chosen = {"x": ColumnCodec(name="gzip")} if compressed else {}
    dataset = published(tmp_path, stored, values, compressed=chosen)
    assert dataset.schema["x"] == stored
    order = np.random.default_rng(1).permutation(ROWS)
    batch = dataset.take(order)
    assert (batch["x"].dtype, batch["x"].shape) == (np.dtype(dtype), (ROWS, 3, 5))
    expected = np.stack([decode_value(stored, encode_value(stored, value)) for value in values])
    assert np.array_equal(batch["x"], expected[batch["id"]])
    assert 0 < np.abs(batch["x"] - values[batch["id"]]).max() <= 0.2
    one = dataset[5]
    assert np.array_equal(one["x"], expected[int(one["id"])])
    seen = np.concatenate([b["x"][np.argsort(b["id"])] for b in dataset.loader(batch_size=ROWS, seed=1)])
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize("codec", [Float16(), BFloat16(), Int8(), Zfp(tolerance=0.01)], ids=lambda codec: codec.codec)
def test_float_arrays_that_may_be_missing(tmp_path: Path, codec: ValueCodec) -> None:
    values = [None if row % 4 == 1 else value for row, value in enumerate(floats("float32"))]
    stored = stored_field(Field(name="x", dtype="float32", shape=(3, 5), nullable=True), codec)
    batch = published(tmp_path, stored, values).take(np.arange(ROWS))
    assert batch["x_mask"].tolist() == [row % 4 == 1 for row in batch["id"]]
    for row, found in zip(batch["id"], batch["x"], strict=True):
        expected = values[row]
        assert np.array_equal(found, np.zeros((3, 5))) if expected is None else np.abs(found - expected).max() < 0.2


@pytest.mark.parametrize("codec", [Float16(), Zfp(tolerance=0.01)], ids=lambda codec: codec.codec)
@pytest.mark.parametrize("nullable", [False, True])
def test_ragged_float_arrays(tmp_path: Path, codec: ValueCodec, nullable: bool) -> None:
    values = [value[: row % 4] for row, value in enumerate(floats("float64"))]
    stored = stored_field(Field(name="x", dtype="float64", shape=(None, 5), nullable=nullable), codec)
    batch = published(tmp_path, stored, [None, *values[1:]] if nullable else values).take(np.arange(ROWS))
    for row, found in zip(batch["id"], batch["x"], strict=True):
        if nullable and row == 0:
            assert found is None
        else:
            assert (found.dtype, found.shape) == (np.dtype("float64"), (row % 4, 5))
            assert np.abs(found - values[row]).max(initial=0) < 0.02


@pytest.mark.parametrize(
    "codec", [Jpeg(), WebP(), Png(), JpegXl(), JpegXl(lossless=True)], ids=lambda codec: f"{codec.codec}-{codec.exact}"
)
def test_pictures(tmp_path: Path, codec: ValueCodec) -> None:
    """An array of one shape becomes a picture: addressed by its byte range, decoded to the same shape."""
    y, x = np.mgrid[:24, :32]
    values = np.stack([np.stack([x * 4 + row, y * 5, x + y], axis=-1) for row in range(ROWS)]).astype(np.uint8)
    stored = stored_field(Field(name="x", dtype="uint8", shape=(24, 32, 3)), codec)
    dataset = published(tmp_path, stored, values)
    assert list((tmp_path / "d").rglob("_part-*.x.npy"))
    batch = dataset.take(np.arange(ROWS))
    assert (batch["x"].dtype, batch["x"].shape) == (np.dtype("uint8"), (ROWS, 24, 32, 3))
    off = np.abs(batch["x"].astype(int) - values[batch["id"]])
    assert off.max() == 0 if codec.exact else 0 < off.mean() < 6


@pytest.mark.parametrize("name", ["zstd", "zlib", "lz4", "snappy", "brotli", "none"])
def test_columns(tmp_path: Path, name: str) -> None:
    codec = ColumnCodec.model_validate(name)
    texts = [f"text {row}" for row in range(ROWS)]
    field = Field(name="x", dtype="string")
    batch = published(tmp_path, field, texts, compressed={"id": codec}, default=codec).take(np.arange(ROWS))
    assert batch["x"].tolist() == [texts[row] for row in batch["id"]]
    assert sorted(batch["id"].tolist()) == list(range(ROWS))
