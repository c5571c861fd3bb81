"""Tables and queries that Spark itself reads."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright import errors
from shardwright.config import Config
from shardwright.spark import prepare, stored_schema
from shardwright.spark.messages import plan_text
from shardwright.stages.publish import Published
from tests.spark.mnist import tree


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "t.parquet"
    table = pa.table({"id": range(20), "x": [0.5 * n for n in range(20)], "when": pa.array([{"a": 1}] * 20)})
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def view(spark: SparkSession, parquet: Path) -> Iterator[None]:
    spark.read.parquet(str(parquet)).createOrReplaceTempView("measured")
    yield
    spark.catalog.dropTempView("measured")


def configured(output: Path, **read: Any) -> Config:
    return Config.model_validate({"name": "t", "read": read, "shard": {"count": 4}, "publish": {"path": str(output)}})


def run(output: Path, **read: Any) -> Published:
    return prepare(configured(output, **read), quiet=True)


def test_a_table_a_query_and_the_files_give_the_same(parquet: Path, tmp_path: Path) -> None:
    files = run(tmp_path / "files", format="parquet", path=str(parquet), columns=["id", "x"], key=["id"])
    table = run(tmp_path / "table", format="table", path="measured", columns=["id", "x"], key=["id"])
    query = run(tmp_path / "query", format="sql", query="SELECT id, x FROM measured ORDER BY x DESC", key=["id"])
    by_path = run(tmp_path / "path", format="table", path=f"parquet.`{parquet}`", columns=["id", "x"], key=["id"])
    for one in (table, query, by_path):
        assert one.manifest.content_id == files.manifest.content_id
        assert tree(Path(one.url)) == tree(tmp_path / "files")
    assert [entry.path for entry in table.manifest.lineage.inputs] == ["table measured"]
    assert query.manifest.lineage.inputs[0].path == "query SELECT id, x FROM measured ORDER BY x DESC"


def test_fields_are_declared_as_for_files(tmp_path: Path) -> None:
    result = run(tmp_path / "out", format="sql", query="SELECT x FROM measured", fields={"x": {"dtype": "float32"}})
    assert sw.open_dataset(result.url, split="train").schema["x"].dtype == "float32"


def test_columns_are_renamed_and_read_as_declared_as_those_of_files(spark: SparkSession, tmp_path: Path) -> None:
    table = pa.table({"the id": pa.array(range(20), pa.int32()), "price": pa.array([Decimal(n) / 4 for n in range(20)])})
    pq.write_table(table.cast(pa.schema([("the id", pa.int32()), ("price", pa.decimal128(8, 2))])), tmp_path / "t.parquet")
    spark.read.parquet(str(tmp_path / "t.parquet")).createOrReplaceTempView("priced")
    read = {"rename": {"id": "the id"}, "fields": {"id": {"dtype": "int32"}, "price": {"dtype": "float32"}}}
    files = run(tmp_path / "files", format="parquet", path=str(tmp_path / "t.parquet"), **read)
    view = run(tmp_path / "table", format="table", path="priced", **read)
    assert view.manifest.content_id == files.manifest.content_id
    data = sw.open_dataset(view.url, split="train")
    assert sorted(float(sample["price"]) for sample in data) == [n / 4 for n in range(20)]
    with pytest.raises(errors.SchemaError, match=r"table priced: read\.rename: no column 'The id'; did you mean 'the id'"):
        run(tmp_path / "none", format="table", path="priced", rename={"id": "The id"})


@pytest.mark.parametrize(
    "read, error, message",
    [
        (
            {"format": "table", "path": "nowhere.t"},
            errors.InputNotFoundError,
            r"^table nowhere\.t: .*`nowhere`\.`t` cannot be found\.",
        ),
        (
            {"format": "sql", "query": "SELECT xx FROM measured"},
            errors.InputError,
            r"^query SELECT xx .*`xx` .*Did you mean .*`x`",
        ),
        ({"format": "sql", "query": "SELECT FROM WHERE"}, errors.InputError, r"^query SELECT FROM WHERE: "),
        (
            {"format": "table", "path": "measured"},
            errors.SchemaError,
            r"table measured: column 'when' has a type that no field can",
        ),
        (
            {"format": "table", "path": "measured", "columns": ["idd"]},
            errors.SchemaError,
            r"table measured: no column 'idd'; did you mean 'id'",
        ),
        (
            {"format": "table", "path": "measured", "columns": ["id"], "fields": {"id": {"dtype": "string"}}},
            errors.SchemaError,
            r"table measured: field 'id' is declared string \(\), which bigint can't hold",
        ),
        (
            {"format": "sql", "query": "SELECT make_ym_interval(1, 2) AS long FROM measured"},
            errors.SchemaError,
            r"column 'long' has a type that no field can have",
        ),
    ],
)
def test_what_can_not_be_read(tmp_path: Path, read: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        run(tmp_path / "out", **read)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_dry_run_needs_no_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardwright.spark.tables.open_session", None)
    config = configured(tmp_path / "out", format="sql", query="SELECT 1")
    text = plan_text(config, stored_schema(config))
    assert "read     sql from SELECT 1: read, clean, split (train 1), stage" in text
