"""Must show: kill -9 of a reshard or export job at any point: nothing half-written looks whole, and the re-run converges."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from shardwright.reader.verify import verify
from shardwright.spark.export import export
from tests.datasets import digits, publish
from tests.faults.driver import EXPORT_POINTS, JOBS
from tests.faults.test_kill import long_but, start
from tests.spark.mnist import tree

RESHARD_POINTS = ("while samples are read", "after the reading pass", "after the writing pass", "before the publishing rename",
                  "between the publishing rename and _LATEST")  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kill-jobs") / "d"
    publish(out, {"train": digits(400), "test": digits(80, 1)}, shards=4)
    return out


@pytest.fixture(scope="module")
def resharded(spark: SparkSession, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "d"
    shutil.copytree(dataset, out)
    JOBS["reshard"](str(out), str(out))
    return out


@pytest.fixture(scope="module")
def exported(spark: SparkSession, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    export(str(dataset), str(out), quiet=True)
    return out


@pytest.mark.parametrize("point", long_but(RESHARD_POINTS, "before the publishing rename"))
def test_reshard(spark: SparkSession, dataset: Path, resharded: Path, tmp_path: Path, point: str) -> None:
    out = tmp_path / "d"
    shutil.copytree(dataset, out)
    assert start(out, out, point, "reshard").wait(timeout=240) == -signal.SIGKILL
    assert not verify(str(out), version="v000001").problems
    for version in sorted(path.name for path in out.glob("v*")):  # what is there is whole
        assert not verify(str(out), version=version).problems
    JOBS["reshard"](str(out), str(out))
    assert tree(out, "v000002") == tree(resharded, "v000002")
    assert not verify(str(out)).problems
    assert sorted(path.name for path in out.iterdir()) == ["_LATEST", "v000001", "v000002"]


@pytest.mark.parametrize("point", long_but(EXPORT_POINTS, "while files are exported"))
def test_export(spark: SparkSession, dataset: Path, exported: Path, tmp_path: Path, point: str) -> None:
    out = tmp_path / "out"
    assert start(dataset, out, point, "export").wait(timeout=240) == -signal.SIGKILL
    assert out.exists() == (point == "after the output is there")
    export(str(dataset), str(out), quiet=True)
    assert _files(out) == _files(exported)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
