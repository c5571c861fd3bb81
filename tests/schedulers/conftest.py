"""Airflow for the tests that are about it, and Hadoop for those that ask for it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import hdfs, yarn
from tests.cluster.daemon import wait_until
from tests.schedulers.airflow_lab import Lab, make_lab
from tests.schedulers.airflow_report import write_report

__all__ = ["airflow_lab", "hdfs", "scheduled", "yarn"]

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def airflow_lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    if not sys.platform.startswith("linux"):
        pytest.skip("the processes of tests are told apart by Linux's /proc")
    failed = request.session.testsfailed
    folder = tmp_path_factory.mktemp("airflow")
    lab = make_lab(folder, {})
    try:
        yield lab
    finally:
        left = lab.airflow.stop()
    if request.session.testsfailed != failed:
        print(f"logs of Airflow: {lab.airflow.folder}", file=sys.stderr)
    else:
        files = {item.path for item in request.session.items}
        if files.issuperset(_HERE.glob("test_airflow*.py")) and request.config.getoption("keyword") == "":  # of a whole run
            write_report(lab.airflow.version, lab.records)
        shutil.rmtree(folder)
    assert not left, "processes that Airflow left behind:\n" + "\n".join(left)


@pytest.fixture
def scheduled(airflow_lab: Lab) -> Iterator[Lab]:
    """With the scheduler running; nothing is held, and no job runs."""
    lab = airflow_lab
    if not lab.airflow.running:
        lab.airflow.start("patient", "impatient", "trainer")
    lab.release()
    yield lab
    lab.release()
    wait_until(lambda: not lab.jobs(), "the end of all jobs", 120)
