"""What a prepare job publishes is what stock Petastorm reads: every sample of a split, and of one shard alone."""

from __future__ import annotations

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
from shardwright.config import Config
from shardwright.spark import prepare
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
