"""Real servers for the tests that are about them: Airflow, and Oozie on an HDFS and YARN of its own."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import hdfs, started, yarn
from tests.cluster.daemon import wait_until
from tests.cluster.hdfs import Hdfs
from tests.cluster.yarn import Yarn
from tests.schedulers import airflow_lab as of_airflow
from tests.schedulers import airflow_report, oozie_report
from tests.schedulers import oozie_lab as of_oozie
from tests.schedulers.oozie import PROXY, Oozie
from tests.schedulers.planted import PLANTED

__all__ = ["airflow_lab", "hdfs", "oozie_lab", "scheduled", "yarn"]

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def airflow_lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[of_airflow.Lab]:
    if not sys.platform.startswith("linux"):
        pytest.skip("the processes of tests are told apart by Linux's /proc")
    failed = request.session.testsfailed
    folder = tmp_path_factory.mktemp("airflow")
    lab = of_airflow.make_lab(folder, {})
    try:
        yield lab
    finally:
        left = lab.airflow.stop()
    if request.session.testsfailed != failed:
        print(f"logs of Airflow: {lab.airflow.folder}", file=sys.stderr)
    else:
        files = {item.path for item in request.session.items}
        if files.issuperset(_HERE.glob("test_airflow*.py")) and request.config.getoption("keyword") == "":  # of a whole run
            airflow_report.write_report(lab.airflow.version, lab.records)
        shutil.rmtree(folder)
    assert not left, "processes that Airflow left behind:\n" + "\n".join(left)


@pytest.fixture
def scheduled(airflow_lab: of_airflow.Lab) -> Iterator[of_airflow.Lab]:
    """With the scheduler running; nothing is held, and no job runs."""
    lab = airflow_lab
    if not lab.airflow.running:
        lab.airflow.start("patient", "impatient", "trainer")
    lab.release()
    yield lab
    lab.release()
    wait_until(lambda: not lab.jobs(), "the end of all jobs", 120)


@pytest.fixture(scope="session")
def oozie_lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[of_oozie.OozieLab]:
    began, failed = time.monotonic(), request.session.testsfailed
    core = {**PROXY, "fs.s3a.secret.key": PLANTED["core-site.xml"]}
    with started(Hdfs(tmp_path_factory.mktemp("oozie"), datanodes=2, core=core), request) as hdfs:
        yarn = Yarn(hdfs)
        oozie = Oozie(hdfs, yarn, PLANTED["oozie-site.xml"])
        try:
            yarn.start()
            oozie.start()
            lab = of_oozie.make_lab(oozie, tmp_path_factory.mktemp("oozie-lab"))
            yield lab
        finally:
            oozie.stop()
            yarn.stop()
    files = {item.path for item in request.session.items}
    whole = files.issuperset(_HERE.glob("test_oozie*.py")) and request.config.getoption("keyword") == ""
    if whole and request.session.testsfailed == failed:
        oozie_report.write_report(lab.records, time.monotonic() - began)
