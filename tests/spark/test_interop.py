"""Anyone's engine reads a split: Spark, DuckDB and pyarrow.dataset, with `shard` as a column to filter on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

import shardwright as sw
from shardwright.codecs import encode_npy
from shardwright.spark import prepare
from tests.spark.mnist import MNIST, config

Row = tuple[int, int, str, str]
"""Shard, label, digest of the cell of the image, key in hexadecimal."""


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("interop") / "mnist"
    shard = {"count": 4, "part_bytes": 150_000, "row_group_bytes": 40_000}
    prepare(config(MNIST, root, shard=shard), quiet=True)
    return root


@pytest.fixture(scope="module")
def split(root: Path) -> Path:
    return root / "v000001" / "train"


@pytest.fixture(scope="module")
def expected(root: Path) -> list[Row]:
    """Every sample, as our own reader gives it."""
    rows = []
    for shard in range(4):
        for sample in sw.open_dataset(str(root), split="train", shards=[shard], columns=["image", "label", "_key"]):
            rows.append(row(shard, int(sample["label"]), encode_npy(sample["image"]), sample["_key"].tobytes()))
    return sorted(rows)


def row(shard: Any, label: int, cell: bytes, key: bytes) -> Row:
    return int(shard), label, hashlib.sha256(cell).hexdigest(), bytes(key).hex()


def test_spark(spark: SparkSession, split: Path, expected: list[Row]) -> None:
    frame = spark.read.parquet(str(split))
    assert frame.schema.simpleString() == "struct<image:binary,label:smallint,_key:binary,shard:int>"
    table = frame.select("shard", "label", "image", "_key").toArrow()
    assert (
        sorted(row(*values) for values in zip(*(table[name].to_pylist() for name in table.schema.names), strict=True))
        == expected
    )
    two = frame.where("shard = 2")
    assert "PartitionFilters: [isnotnull(shard" in two._jdf.queryExecution().toString()  # reads no other shard
    assert two.count() == sum(shard == 2 for shard, *_ in expected)
    counted = {r["shard"]: r["samples"] for r in frame.groupBy("shard").agg(sf.count("*").alias("samples")).collect()}
    assert counted == dict.fromkeys(range(4), len(expected) // 4)


def test_duckdb(split: Path, expected: list[Row]) -> None:
    source = f"read_parquet('{split}/*/*.parquet', hive_partitioning=true)"
    rows = duckdb.execute(f"select shard, label, image, _key from {source}").fetchall()
    assert sorted(row(*values) for values in rows) == expected
    own = [line for line in expected if line[0] == 1]
    assert duckdb.execute(f"select count(*), sum(label) from {source} where shard = 1").fetchall() == [(
        len(own), sum(label for _, label, *_ in own),
    )]  # fmt: skip
    files = duckdb.execute(f"explain analyze select label from {source} where shard = 1").fetchall()[0][1]
    assert "Scanning Files: 3/12" in files  # it looks into no other shard
    assert duckdb.execute(f"select count(*) from {source} where label between 3 and 5").fetchall() == [
        (sum(3 <= label <= 5 for _, label, *_ in expected),)
    ]


def test_pyarrow_dataset(split: Path, expected: list[Row]) -> None:
    dataset = ds.dataset(str(split), format="parquet", partitioning="hive")
    assert len(dataset.files) == 12  # nothing that begins with '_'
    table = dataset.to_table(columns=["shard", "label", "image", "_key"])
    assert (
        sorted(row(*values) for values in zip(*(table[name].to_pylist() for name in table.schema.names), strict=True))
        == expected
    )
    assert dataset.count_rows(filter=pc.field("shard") == 3) == len(expected) // 4
    assert len(list(dataset.get_fragments(filter=pc.field("shard") == 3))) == 3


def test_the_quarantine_and_the_index_are_parquet_too(root: Path) -> None:
    index = duckdb.execute(f"select split, sum(samples) from '{root}/v000001/_index.parquet' group by split order by split")
    assert index.fetchall() == [("train", len(sw.open_dataset(str(root), split="train"))), (
        "validation", len(sw.open_dataset(str(root), split="validation")),
    )]  # fmt: skip
