"""One dataset with every kind of field, published by Spark; and stock Petastorm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from shardwright.schema import Schema
from shardwright.spark import write_dataset
from shardwright.stages.compress import CompressOptions
from shardwright.stages.shard import ShardOptions
from tests.petastorm.conftest import petastorm_oracle  # noqa: F401 - a fixture
from tests.roundtrip.kinds import KINDS, ROWS

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("roundtrip") / "d"
    rows = [tuple(kind.cell(i) for kind in KINDS) for i in range(ROWS)]
    frame = spark.createDataFrame(rows, ", ".join(f"{kind.name} {kind.spark}" for kind in KINDS))
    compress = CompressOptions.model_validate({"fields": {kind.name: kind.compress for kind in KINDS if kind.compress}})
    write_dataset(
        frame, str(root), shards=ShardOptions(count=2, row_group_bytes=8000), compress=compress,
        schema=Schema(fields=tuple(kind.field for kind in KINDS)), quiet=True,
    )  # fmt: skip
    return root
