"""Must show: kill -9 of the driver at any point: the previous version stays readable, and the re-run gives the same bytes."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from shardwright.reader.verify import verify
from shardwright.spark import prepare
from shardwright.stages.publish import Published
from tests.conftest import ROOT
from tests.faults.driver import NEVER, POINTS, second_version
from tests.spark.mnist import config, tree, write_digits

RANDOM_POINTS = 20
USUAL = (
    "after the fitting pass", "while parts are written", "while files are moved", "between the publishing rename and _LATEST",
)  # fmt: skip
"""The points of the default run."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("kill") / "in", np.array_split(np.arange(2000), 4), "abcd")


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with v000001 of 4 shards and v000002 of 7."""
    out = tmp_path_factory.mktemp("undisturbed") / "mnist"
    prepare(config(source, out), quiet=True)
    prepare(second_version(source, out), new_version=True, quiet=True)
    return out


@pytest.fixture
def dataset(undisturbed: Path, tmp_path: Path) -> Path:
    """The same dataset before its second version."""
    out = tmp_path / "mnist"
    shutil.copytree(undisturbed / "v000001", out / "v000001")
    (out / "_LATEST").write_text((undisturbed / "_LATEST").read_text().replace("v000002", "v000001"))
    return out


def start(source: Path, out: Path, point: str, job: str = "prepare") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.driver", job, str(source), str(out), point]
    arguments = f"--master local[2] --properties-file {ROOT / 'conf/spark/local.conf'} pyspark-shell"
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_SUBMIT_ARGS": arguments}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def check_after(source: Path, dataset: Path, undisturbed: Path) -> Published:
    """What holds after a kill: the old version is whole, the re-run converges, nothing stray is published."""
    assert not verify(str(dataset), version="v000001").problems
    again = prepare(second_version(source, dataset), new_version=True, quiet=True)
    assert again.version == "v000002"
    assert tree(dataset, "v000001") == tree(undisturbed, "v000001")
    assert tree(dataset, "v000002") == tree(undisturbed, "v000002")  # the same names too: no stray file
    assert not verify(str(dataset)).problems
    assert sorted(path.name for path in dataset.iterdir()) == ["_LATEST", "v000001", "v000002"]
    return again


def long_but(points: Sequence[str], *usual: str) -> list[Any]:
    """Parameters of a test: the `usual` ones in every run, the others in the long one."""
    return [point if point in usual else pytest.param(point, marks=pytest.mark.long) for point in points]


@pytest.mark.parametrize("point", long_but(POINTS, *USUAL))
def test_kill_at_a_named_point(spark: SparkSession, source: Path, dataset: Path, undisturbed: Path, point: str) -> None:
    driver = start(source, dataset, point)
    assert driver.wait(timeout=240) == -signal.SIGKILL
    done = {path.name for path in dataset.glob("_staging/*/*.json")}
    check_after(source, dataset, undisturbed)
    for step, first in (("read", 1), ("fit", 2), ("carry", 3)):  # so the re-run went on from there
        assert f"{step}.json" in done or POINTS.index(point) not in range(first, 5)


def test_a_finished_pass_is_not_run_again(spark: SparkSession, source: Path, dataset: Path, undisturbed: Path) -> None:
    assert start(source, dataset, "after the writing pass").wait(timeout=240) == -signal.SIGKILL
    again = check_after(source, dataset, undisturbed)
    assert not {"read", "fit", "carry", "write"} & set(again.manifest.provenance.seconds)


@pytest.fixture
def report() -> Iterator[list[str]]:
    """Lines of a table, written to docs/faults.md at the end."""
    lines: list[str] = []
    yield lines
    head = [
        "# Kill -9 at random points",
        "",
        f"`tests/run --faults`, {datetime.now(UTC).date()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores.",
        "A prepare job (2,000 digits, a second version of 7 shards) and all its processes are killed after a random time,",
        "in the later half of what it takes undisturbed: before that Spark is starting.",
        "Checked each time: the first version verifies, the re-run's second version is byte for byte that of an",
        "undisturbed run, and no other file is left.",
        "",
        "| killed after | steps done by then | version published by then | old version | re-run | stray files |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    (ROOT / "docs" / "faults.md").write_text("\n".join([*head, *lines]) + "\n")


@pytest.mark.long
def test_kill_at_random_points(spark: SparkSession, source: Path, undisturbed: Path, tmp_path: Path, report: list[str]) -> None:
    began = time.monotonic()
    shutil.copytree(undisturbed / "v000001", tmp_path / "timed/v000001")
    assert start(source, tmp_path / "timed", NEVER).wait(timeout=600) == 0
    whole = time.monotonic() - began
    for number, share in enumerate(np.random.default_rng(2026).uniform(0.45, 1.0, RANDOM_POINTS)):
        dataset = tmp_path / str(number) / "mnist"
        shutil.copytree(undisturbed / "v000001", dataset / "v000001")
        shutil.copy(tmp_path / "timed/_LATEST", dataset / "_LATEST")
        (dataset / "_LATEST").write_text((undisturbed / "_LATEST").read_text().replace("v000002", "v000001"))
        driver = start(source, dataset, NEVER)
        try:
            driver.wait(timeout=share * whole)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        steps = ", ".join(sorted(path.stem for path in dataset.glob("_staging/*/*.json"))) or "none"
        published = "yes" if (dataset / "v000002").exists() else "no"
        check_after(source, dataset, undisturbed)
        report.append(f"| {share * whole:.2f} s of {whole:.1f} | {steps} | {published} | whole | same bytes | none |")
