"""A team's own functions in a job: the same bytes however the work is cut, nothing lost, and clear errors."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright import errors
from shardwright.spark import prepare
from shardwright.stages.publish import Published
from tests.conftest import ROOT
from tests.spark.mnist import MNIST, config, digits, tree, write_digits

pytestmark = pytest.mark.usefixtures("spark")
HERE = "tests.unit.own_functions"

FEATURES = {
    "function": "docs.examples.own_map:features", "options": {"bins": 8}, "drop": ["image"],
    "fields": {"histogram": {"dtype": "float32", "shape": [8]}, "ink": {"dtype": "float32"}},
}  # fmt: skip
CHOOSE = {"function": "docs.examples.own_map:choose", "options": {"labels": [0, 1, 2], "share": 0.5}}


def mapped(source: Path, output: Path, *maps: dict[str, Any], **tables: Any) -> Published:
    standardise = {"fields": ["ink"]} if maps[0] == FEATURES else {}
    return prepare(config(source, output, map=list(maps), standardise=standardise, **tables), quiet=True)


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return mapped(MNIST, tmp_path_factory.mktemp("maps") / "out", FEATURES, CHOOSE)


def test_what_comes_of_it(published: Published) -> None:
    assert published.manifest.content.dataset_schema.names == ("label", "histogram", "ink")
    counts = published.manifest.lineage.counts
    assert counts.read == 2000 == counts.published + counts.dropped + counts.filtered
    _, labels = digits()
    few = np.isin(labels, [0, 1, 2]).sum()
    assert 0.4 * few < counts.published + counts.dropped < 0.6 * few
    train = sw.open_dataset(published.url, split="train")
    batch = train.take(list(range(len(train))))
    assert set(batch["label"].tolist()) == {0, 1, 2}
    assert batch["histogram"].sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("task_bytes", [2**30, 24_700 * 10])
def test_same_bytes_for_any_number_of_tasks(published: Published, tmp_path: Path, task_bytes: int) -> None:
    source = write_digits(tmp_path / "in", np.array_split(np.arange(2000), 3), "bca")
    read = {"format": "idx", "path": str(source), "task_bytes": task_bytes}
    again = mapped(source, tmp_path / "out", FEATURES, CHOOSE, read=read)
    assert again.manifest.content_id == published.manifest.content_id
    assert tree(tmp_path / "out") == tree(Path(published.url))


def test_what_it_can_not_take_is_in_the_quarantine(tmp_path: Path) -> None:
    fails = {"function": "tests.spark.bad_maps:no_sevens"}
    with pytest.raises(errors.TooManyRejectedError, match=r"bad_maps:no_sevens: ValueError: no sevens \(bad_maps\.py:\d+\)"):
        mapped(MNIST, tmp_path / "out", fails)
    result = mapped(MNIST, tmp_path / "out", fails, clean={"max_rejected": 0.2})
    _, labels = digits()
    rows = pq.read_table(tmp_path / "out/v000001/_quarantine").to_pylist()
    assert len(rows) == (labels == 7).sum() == result.manifest.lineage.counts.quarantined
    assert {(row["stage"], row["sample_label"]) for row in rows} == {("map", 7)}
    assert all("images-idx3-ubyte" in row["source"] for row in rows)


def test_one_that_kills_the_worker(tmp_path: Path) -> None:
    die = {"function": "tests.spark.bad_maps:die"}
    with pytest.raises(errors.WorkerDiedError, match=r"worker of Spark died.*it ran your own tests\.spark\.bad_maps:die: does"):
        mapped(MNIST, tmp_path / "out", die)
    assert not (tmp_path / "out/v000001").exists()


def test_one_that_is_not_there_is_told_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"2 problems(?s:.*)no field 'imgae'(?s:.*)No module named 'nowhere'"):
        mapped(MNIST, tmp_path / "out", {"function": "nowhere:f", "drop": ["imgae"]})
    assert not (tmp_path / "out").exists()


def test_other_code_is_another_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {"function": "docs.examples.own_map:choose", "options": {"labels": [0, 1], "share": 1.0}}
    first = mapped(MNIST, tmp_path / "out", some, split={}, shard={"count": 2})
    assert "nothing to do" in mapped(MNIST, tmp_path / "out", some, split={}, shard={"count": 2}).note
    monkeypatch.setattr("shardwright.spark.work.code_sha256", lambda target: "of code that was edited")
    with pytest.raises(errors.DatasetConflictError, match=r"another configuration.*--new-version"):
        mapped(MNIST, tmp_path / "out", some, split={}, shard={"count": 2})
    assert first.version == "v000001"


def test_the_command_of_the_example(tmp_path: Path) -> None:
    table = (ROOT / "docs/examples/own_map.py").read_text().partition("    [[map]]")[2].partition("./spark-submit")[0]
    toml = "\n".join(line.removeprefix("    ") for line in f"    [[map]]{table}".splitlines())
    head = f'name = "x"\n[read]\nformat = "idx"\npath = "{MNIST}"\n[shard]\ncount = 2\n[publish]\npath = "{tmp_path}/out"\n'
    (tmp_path / "my.toml").write_text(head + toml)
    command = ["./spark-submit.sh", "--master", "local[1]", "--py-files", "docs/examples/own_map.py", "jobs/prepare.py"]
    done = subprocess.run(
        [*command, str(tmp_path / "my.toml")], cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert "filtered" in done.stdout
    assert sw.open_dataset(str(tmp_path / "out"), split="train").schema.names == ("label", "histogram", "ink")
