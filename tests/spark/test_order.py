"""Stratified splits, kept order, carried samples: what is promised of them, and the same bytes however the work is cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright import errors
from shardwright.reader.verify import verify
from shardwright.spark import prepare
from shardwright.spark.messages import result_text
from shardwright.stages.publish import Published
from tests.spark.mnist import config, tree

pytestmark = pytest.mark.usefixtures("spark")

ROWS = 1000


def sensor_log(folder: Path, files: int, *, seed: int = 0) -> Path:
    """Rows of (group, time, value, label) in any order, in `files` files; some times are equal, 3 rows have two copies each."""
    rng = np.random.default_rng(5)
    group = rng.choice(["b", "a", "ü", "aa"], ROWS)
    time = rng.integers(-50, 50, ROWS)
    label = rng.choice([0, 1, 2, 3], ROWS, p=[0.7, 0.2, 0.09, 0.01])
    value = rng.normal(size=ROWS).round(3)
    for copy in range(3):
        for column in (group, time, label, value):
            column[[copy * 2 + 100, copy * 2 + 101]] = column[copy]
    order = np.random.default_rng(seed).permutation(ROWS)
    table = pa.table({"group": group[order], "time": time[order], "value": value[order], "label": label[order]})
    folder.mkdir(parents=True)
    for number, rows in enumerate(np.array_split(np.arange(ROWS), files)):
        pq.write_table(table.take(rows), folder / f"{files - number}.parquet", row_group_size=70)
    return folder


def run(source: Path, output: Path, *, task_bytes: int = 2**27, **tables: Any) -> Published:
    read = {"format": "parquet", "path": str(source), "task_bytes": task_bytes} | tables.pop("read", {})
    return prepare(
        config(source, output, **{"read": read, "standardise": {}, "split": {}, "shard": {"count": 3}} | tables), quiet=True
    )


STRATIFIED: dict[str, Any] = {"split": {"fractions": {"train": 0.8, "validation": 0.2}, "stratify": "label", "seed": 2}}
KEPT: dict[str, Any] = {"shard": {"count": 3, "order": "keep", "order_by": ["group", "time"], "remainder": "carry"}}
CARRIED: dict[str, Any] = {
    "shard": {"count": 7, "remainder": "carry", "per_split": {"validation": 1}},
    "split": STRATIFIED["split"],
}
CASES: dict[str, dict[str, Any]] = {"stratified": STRATIFIED, "kept": KEPT, "carried": CARRIED, "both": STRATIFIED | KEPT}


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    source = sensor_log(tmp_path_factory.mktemp("log") / "in", 1)
    return {name: run(source, source.parent / name, **tables) for name, tables in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_same_bytes_however_it_is_cut(published: dict[str, Published], tmp_path: Path, case: str) -> None:
    source = sensor_log(tmp_path / "in", 4, seed=1)
    again = run(source, tmp_path / "out", task_bytes=1, **CASES[case])
    assert again.manifest.content_id == published[case].manifest.content_id
    mine, theirs = tree(tmp_path / "out"), tree(Path(published[case].url))
    assert mine.keys() == theirs.keys()  # what is carried says where it is from, which is other files here
    assert {name for name in mine if mine[name] != theirs[name]} <= {f.name for f in again.manifest.lineage.carried}


@pytest.mark.parametrize("case", ["stratified", "kept", "both"])
def test_same_bytes_where_spark_looks_for_the_ranks(
    published: dict[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr("shardwright.spark.ranks.ROWS_PER_TASK", 200)  # as in a large dataset
    monkeypatch.setattr("shardwright.spark.ranks._EDGES", 30)
    again = run(sensor_log(tmp_path / "in", 3, seed=2), tmp_path / "out", **CASES[case])
    assert again.manifest.content_id == published[case].manifest.content_id


def rows_of(published: Published, split: str) -> dict[str, np.ndarray]:
    dataset = sw.open_dataset(published.url, split=split)
    return dataset.take(np.arange(len(dataset)))


def test_every_class_is_cut_exactly(published: dict[str, Published], tmp_path: Path) -> None:
    whole = run(sensor_log(tmp_path / "in", 1), tmp_path / "out", shard={"count": 1})
    counts = Counter(rows_of(whole, "train")["label"].tolist())
    one_shard = run(tmp_path / "in", tmp_path / "cut", shard={"count": 1}, **STRATIFIED)
    found = {split: Counter(rows_of(one_shard, split)["label"].tolist()) for split in ("train", "validation")}
    for label, count in counts.items():
        assert found["train"][label] + found["validation"][label] == count
        assert abs(found["validation"][label] - 0.2 * count) < 3  # copies stay together
    both = [set(rows_of(one_shard, split)["value"].tolist()) for split in found]
    assert len(both[0] & both[1]) < 0.2 * ROWS  # values of three digits are not unique, but rows that are copies are


def test_the_order_is_kept_over_all_shards(published: dict[str, Published]) -> None:
    rows = rows_of(published["kept"], "train")
    pairs = list(zip(rows["group"].tolist(), rows["time"].tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert len(pairs) == 999
    plan = published["kept"].manifest.content.plan
    assert (plan.order, plan.order_by) == ("keep", ("group", "time"))


def test_what_is_carried(published: dict[str, Published]) -> None:
    result = published["kept"]
    lineage = result.manifest.lineage
    assert (lineage.counts.carried, lineage.counts.published) == (1, 999)
    (file,) = lineage.carried
    table = pq.read_table(Path(result.url) / result.version / file.name)
    assert table.column_names == ["group", "time", "value", "label", "_key", "_source"]
    (row,) = table.to_pylist()
    last = rows_of(result, "train")
    assert (row["group"], row["time"]) >= (last["group"][-1], last["time"][-1])
    assert "parquet#" in row["_source"]
    assert "999 published + 1 carried" in result_text(result)
    assert file.name in result_text(result)


def test_verify_looks_at_what_is_carried(published: dict[str, Published], tmp_path: Path) -> None:
    result = published["carried"]
    assert len(result.manifest.lineage.carried) == 1  # validation has one shard and nothing left over
    assert verify(result.url).problems == []
    path = Path(result.url) / result.version / result.manifest.lineage.carried[0].name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    assert any(
        problem.startswith("_carry/train/part-00000.parquet: expected sha256") for problem in verify(result.url).problems
    )
    path.unlink()
    assert any("_carry/train/part-00000.parquet: missing" in problem for problem in verify(result.url).problems)
    path.write_bytes(data)


def test_other_counts_for_one_split(published: dict[str, Published]) -> None:
    splits = published["carried"].manifest.content.splits
    assert {name: len(split.shards) for name, split in splits.items()} == {"train": 7, "validation": 1}


def test_no_place_in_the_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"t": [2.0, None, float("nan"), 1.0], "x": [1, 2, 3, 4]}), tmp_path / "in/a.parquet")
    fields = {"fields": {"t": {"dtype": "float64", "nullable": True}}}
    shard = {"count": 1, "order": "keep", "order_by": ["t"]}
    clean = {"max_rejected": 0.5, "non_finite": "keep"}
    result = run(tmp_path / "in", tmp_path / "out", read=fields, shard=shard, clean=clean)
    assert rows_of(result, "train")["x"].tolist() == [4, 1]
    found = {
        (row["stage"], row["field"], row["reason"]) for row in pq.read_table(tmp_path / "out/v000001/_quarantine").to_pylist()
    }
    assert found == {("shard", "t", "null, which has no place"), ("shard", "t", "NaN, which has no place")}


def test_one_key_at_two_times(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": [1, 2, 2, 3], "t": [1, 2, 9, 3]}), tmp_path / "in/a.parquet")
    shard = {"count": 1, "order": "keep", "order_by": ["t"]}
    with pytest.raises(errors.KeyConflictError, match="samples of one key"):
        run(tmp_path / "in", tmp_path / "out", read={"key": ["id"]}, shard=shard)
    kept = run(tmp_path / "in", tmp_path / "out", read={"key": ["id"], "duplicate_keys": "keep"}, shard=shard)
    assert rows_of(kept, "train")["t"].tolist() == [1, 2, 3, 9]
