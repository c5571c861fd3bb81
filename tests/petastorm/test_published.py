"""What a prepare job publishes is what stock Petastorm reads: every sample of a split, and of one shard alone."""

from __future__ import annotations

import datetime
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright.codecs import encode_npy
from shardwright.config import Config
from shardwright.schema import Schema
from shardwright.spark import prepare, write_dataset
from shardwright.stages.compress import CompressOptions
from shardwright.stages.shard import ShardOptions
from tests.conftest import SAMPLES
from tests.petastorm.conftest import Oracle
from tests.spark.mnist import MNIST, config, digits

Kind = Literal["reader", "batch"]
KINDS: tuple[Kind, ...] = ("reader", "batch")
Digits = Counter[tuple[int, bytes]]


@pytest.fixture(scope="module")
def mnist(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits in 2 shards, with several parts and several row groups in each."""
    root = tmp_path_factory.mktemp("published") / "mnist"
    prepare(config(MNIST, root, shard={"count": 2, "part_bytes": 500_000, "row_group_bytes": 150_000}), quiet=True)
    assert len(list(root.glob("v000001/train/shard=00000/part-*"))) > 1
    assert pq.read_metadata(root / "v000001/train/shard=00000/part-00000.parquet").num_row_groups > 1
    return root


def found(rows: list[dict[str, Any]], kind: Kind) -> Digits:
    """Labels and pictures of what Petastorm returned; its batch reader does not decode cells."""
    assert set(rows[0]) == {"image", "label"}  # neither `shard` nor `_key`
    if kind == "reader":
        assert {(row["image"].dtype.str, row["image"].shape, row["label"].dtype.str) for row in rows} == {
            ("|u1", (28, 28), "|u1")
        }
        return Counter((int(row["label"]), row["image"].tobytes()) for row in rows)
    assert all(row["image"].startswith(b"\x93NUMPY") for row in rows)
    return Counter((int(row["label"]), row["image"][-784:]) for row in rows)


def ours(root: Path, split: str, shards: list[int] | None = None) -> Digits:
    batch = sw.open_dataset(str(root), split=split, shards=shards)
    return Counter((int(sample["label"]), sample["image"].tobytes()) for sample in batch)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_of_every_split(mnist: Path, petastorm_oracle: Oracle, kind: Kind) -> None:
    read = {
        split: found(petastorm_oracle(mnist / "v000001" / split, kind, id_field=None), kind)
        for split in ("train", "validation")
    }
    images, labels = digits()
    source = Counter((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))
    dropped = source - read["train"] - read["validation"]
    assert read["train"] + read["validation"] + dropped == source
    assert dropped.total() <= 2
    assert read == {split: ours(mnist, split) for split in read}


@pytest.mark.parametrize("kind", KINDS)
def test_one_shard_that_lies_alone(mnist: Path, petastorm_oracle: Oracle, kind: Kind, tmp_path: Path) -> None:
    alone = tmp_path / "somewhere"
    shutil.copytree(mnist / "v000001/train/shard=00001", alone)
    shutil.copy(alone / "_petastorm", alone / "_common_metadata")
    read = found(petastorm_oracle(alone, kind, id_field=None), kind)
    assert read == ours(mnist, "train", shards=[1])
    assert read.total() * 2 == len(sw.open_dataset(str(mnist), split="train"))


@pytest.mark.parametrize("kind", KINDS)
def test_petastorms_own_sharding_of_the_published_layout(mnist: Path, petastorm_oracle: Oracle, kind: Kind) -> None:
    split = mnist / "v000001/train"
    read = [found(petastorm_oracle(split, kind, shard=(number, 3), id_field=None), kind) for number in range(3)]
    assert all(part.total() > 300 for part in read)
    assert read[0] + read[1] + read[2] == ours(mnist, "train")


def test_photographs_are_decoded(spark: SparkSession, petastorm_oracle: Oracle, tmp_path: Path) -> None:
    """Stock decodes by OpenCV. A PNG has one decoding; other builds of a JPEG decoder may round differently."""
    values = {
        "name": "photos", "read": {"format": "images", "path": str(SAMPLES / "photos")},
        "shard": {"count": 2, "remainder": "spread", "row_group_bytes": 200_000}, "publish": {"path": str(tmp_path / "photos")},
    }  # fmt: skip
    prepare(Config.model_validate(values), quiet=True)
    split = tmp_path / "photos/v000001/train"
    files = {path.read_bytes(): path for path in (SAMPLES / "photos").glob("*/*.*")}
    encoded = petastorm_oracle(split, "batch", id_field=None)
    assert sorted(row["image"] for row in encoded) == sorted(files)
    assert {row["class_name"] for row in encoded} == {"nature", "space", "town"}
    decoded = petastorm_oracle(split, "reader", id_field=None)
    assert len(decoded) == len(files) == 7
    for row, raw in zip(decoded, encoded, strict=True):  # row groups and rows come in the same order
        path = files[raw["image"]]
        assert row["class_name"] == path.parent.name
        expected = np.asarray(imagecodecs.imread(raw["image"]))
        assert (row["image"].dtype, row["image"].shape) == (np.dtype("uint8"), expected.shape)
        off = np.abs(row["image"].astype(int) - expected)
        assert off.max() <= (0 if path.suffix == ".png" else 3), path.name
        assert off.mean() <= (0 if path.suffix == ".png" else 0.1), path.name


FIELDS: list[dict[str, Any]] = [
    {"name": "id", "dtype": "int64"},
    {"name": "half", "dtype": "float16"},
    {"name": "word", "dtype": "uint16"},
    {"name": "long_word", "dtype": "uint32"},
    {"name": "huge", "dtype": "uint64"},
    {"name": "flag", "dtype": "bool"},
    {"name": "when", "dtype": "timestamp"},
    {"name": "text", "dtype": "string"},
    {"name": "blob", "dtype": "bytes"},
    {"name": "ragged", "dtype": "float32", "shape": [None]},
    {"name": "grid", "dtype": "float32", "shape": [2, 2]},
    {"name": "raw", "dtype": "int16", "shape": [3], "codec": "raw"},
    {"name": "maybe_word", "dtype": "uint16", "nullable": True},
    {"name": "maybe_real", "dtype": "float64", "nullable": True},
    {"name": "maybe_flag", "dtype": "bool", "nullable": True},
    {"name": "maybe_text", "dtype": "string", "nullable": True},
    {"name": "maybe_when", "dtype": "timestamp", "nullable": True},
    {"name": "maybe_grid", "dtype": "int32", "shape": [2], "nullable": True},
]
TYPES = (
    "id long, half float, word int, long_word long, huge long, flag boolean, when timestamp_ntz, text string, blob binary, "
    "ragged array<float>, grid binary, raw binary, maybe_word int, maybe_real double, maybe_flag boolean, maybe_text string, "
    "maybe_when timestamp_ntz, maybe_grid binary"
)


def value(name: str, i: int) -> Any:
    """Field `name` of sample i, as stock Petastorm's reader should return it."""
    if name.startswith("maybe_") and i % 3 == 1:
        return {"maybe_real": np.float64("nan"), "maybe_when": np.datetime64("NaT")}.get(name)
    moment = np.datetime64("1969-12-31T23:59:59.999999") + np.timedelta64(i * 10**9, "us")
    values: dict[str, Any] = {
        "id": np.int64(i), "half": np.float16(i / 3), "word": np.uint16(65535 - i), "long_word": np.uint32(2**32 - 1 - i),
        "huge": np.uint64(2**63 - 1 - i), "flag": np.bool_(i % 2), "when": moment, "text": "é中" * (i % 4),
        "blob": bytes(range(i % 5)), "ragged": np.arange(i % 4, dtype="f4") / 2,
        "grid": np.full((2, 2), i, "f4"), "raw": np.arange(3, dtype="<i2").tobytes(), "maybe_word": np.uint16(i),
        "maybe_real": np.float64(i), "maybe_flag": np.bool_(i % 2), "maybe_text": str(i), "maybe_when": moment,
        "maybe_grid": np.array([i, -i], "i4"),
    }  # fmt: skip
    return values[name]


def spark_value(name: str, i: int) -> Any:
    made = value(name, i)
    if name.startswith("maybe_") and i % 3 == 1:
        return None
    if name in ("grid", "maybe_grid"):
        return encode_npy(made)
    if isinstance(made, np.ndarray):
        return made.tolist()
    return made.astype(datetime.datetime) if isinstance(made, np.datetime64) else getattr(made, "item", lambda: made)()


@pytest.fixture(scope="module")
def kinds(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds") / "d"
    rows = [tuple(spark_value(field["name"], i) for field in FIELDS) for i in range(24)]
    options = ShardOptions(count=2, row_group_bytes=3000)
    schema = Schema.model_validate({"fields": FIELDS})
    compress = CompressOptions.model_validate({"fields": {"word": "zstd"}})
    write_dataset(spark.createDataFrame(rows, TYPES), str(root), shards=options, schema=schema, compress=compress, quiet=True)
    return root / "v000001/train"


def test_every_kind_of_field(kinds: Path, petastorm_oracle: Oracle) -> None:
    rows = petastorm_oracle(kinds, "reader")
    assert [row["id"] for row in rows] == list(range(24))
    wrong = [
        f"{field['name']} of {i}: got {row[field['name']]!r}, wanted {value(field['name'], i)!r}"
        for i, row in enumerate(rows)
        for field in FIELDS
        if not same(row[field["name"]], value(field["name"], i))
    ]
    assert not wrong, "\n".join(wrong[:10])


def test_every_kind_of_field_in_batches(kinds: Path, petastorm_oracle: Oracle) -> None:
    """Numbers come in the wider types they have on disk, arrays as their cells; whole numbers with nulls as floats."""
    for i, row in enumerate(petastorm_oracle(kinds, "batch")):
        for name in ("id", "half", "word", "long_word", "huge", "flag"):
            assert row[name] == (np.float32(value(name, i)) if name == "half" else value(name, i)), name
        for name in ("text", "blob", "raw"):
            assert row[name] == value(name, i)
        for name in ("ragged", "grid", "maybe_grid"):
            assert row[name] == (None if value(name, i) is None else encode_npy(value(name, i)))
        assert row["when"] == value("when", i)
        assert np.isnat(row["maybe_when"]) if i % 3 == 1 else row["maybe_when"] == value("maybe_when", i)
        assert np.isnan(row["maybe_real"]) if i % 3 == 1 else row["maybe_real"] == i


def same(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.datetime64):
        return bool(got == wanted or (np.isnat(got) and np.isnat(wanted)))
    if not isinstance(wanted, np.generic | np.ndarray):
        return type(got) is type(wanted) and got == wanted
    return got.dtype == wanted.dtype and np.array_equal(got, wanted, equal_nan=wanted.dtype.kind == "f")
