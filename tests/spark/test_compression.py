"""Spark reads columns of every codec but brotli, for which it lacks what it would need, and encoded values as their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from shardwright.codecs import encode_value, stored_field
from shardwright.codecs.options import Int8, Png
from shardwright.config import Recipe
from shardwright.format.compression import ColumnCodec
from shardwright.schema import Field, Schema
from shardwright.spark.messages import reader_notes
from tests.datasets import publish

ROWS = 40
SCALED = stored_field(Field(name="scaled", dtype="float32", shape=(3,)), Int8())
PICTURE = stored_field(Field(name="picture", dtype="uint8", shape=(4, 4)), Png())
COLUMNS = ("zstd", "gzip", "lz4", "snappy", "none", "brotli")
DATA: dict[str, Any] = {
    "scaled": np.arange(ROWS * 3, dtype="f4").reshape(ROWS, 3),
    "picture": np.arange(ROWS * 16).reshape(ROWS, 4, 4).astype(np.uint8),
    **{name: [f"{name} {row % 7}" for row in range(ROWS)] for name in COLUMNS},
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compression") / "d"
    schema = Schema(fields=(SCALED, PICTURE, *(Field(name=name, dtype="string") for name in COLUMNS)))
    chosen = {name: ColumnCodec.model_validate(name) for name in COLUMNS} | {"scaled": ColumnCodec(name="lz4", level=9)}
    publish(root, {"train": DATA}, schema, shards=2, compressed=chosen)
    return root / "v000001/train"


def test_spark_reads_what_it_says(spark: SparkSession, split: Path) -> None:
    readable = [name for name in COLUMNS if ColumnCodec.model_validate(name).spark_reads]
    assert readable == ["zstd", "gzip", "lz4", "snappy", "none"]
    rows = spark.read.parquet(str(split)).select(*readable, "scaled", "picture").collect()
    expected = [
        (*(DATA[name][row] for name in readable), *(encode_value(f, DATA[f.name][row]) for f in (SCALED, PICTURE)))
        for row in range(ROWS)
    ]
    assert sorted((*row[:-2], *map(bytes, row[-2:])) for row in rows) == sorted(expected)


def test_what_others_do_not_read_is_said_before_the_run() -> None:
    fields = {"score": "brotli", "picture": "jpegxl"}
    compress = {"columns": "brotli", "fields": fields}
    coded = {"features": {"kind": "one_hot"}}  # of one length in the end, so read by offset
    recipe = Recipe.model_validate({"compress": compress, "standardise": coded, "shard": {"count": 1, "remainder": "pad"}})
    schema = Schema(
        fields=(
            Field(name="score", dtype="float32"), Field(name="kind", dtype="string"), Field(name="text", dtype="string"),
            Field(name="picture", dtype="uint8", shape=(8, 8, 3)), Field(name="id", dtype="int64"),
        )
    )  # fmt: skip
    assert [note.partition(" columns")[0] for note in reader_notes(recipe, recipe.stored(schema))] == [
        "picture: stock Petastorm gives the stored bytes of a JPEG XL picture",
        *(f"{name}: Spark does not read brotli" for name in ("score", "text", "_pad")),
    ]


def test_spark_has_no_brotli(spark: SparkSession, split: Path) -> None:
    """Where this fails, `ColumnCodec.spark_reads` has to learn it."""
    with pytest.raises(Exception, match=r"(?i)brotli"):
        spark.read.parquet(str(split)).select("brotli").collect()
