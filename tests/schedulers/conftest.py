"""A real Oozie on an HDFS and YARN of its own, for the tests that are about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import started
from tests.cluster.hdfs import Hdfs
from tests.cluster.yarn import Yarn
from tests.schedulers.oozie import PROXY, Oozie
from tests.schedulers.oozie_lab import OozieLab, make_lab
from tests.schedulers.oozie_report import write_report
from tests.schedulers.planted import PLANTED

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def oozie_lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[OozieLab]:
    began, failed = time.monotonic(), request.session.testsfailed
    core = {**PROXY, "fs.s3a.secret.key": PLANTED["core-site.xml"]}
    with started(Hdfs(tmp_path_factory.mktemp("oozie"), datanodes=2, core=core), request) as hdfs:
        yarn = Yarn(hdfs)
        oozie = Oozie(hdfs, yarn, PLANTED["oozie-site.xml"])
        try:
            yarn.start()
            oozie.start()
            lab = make_lab(oozie, tmp_path_factory.mktemp("oozie-lab"))
            yield lab
        finally:
            oozie.stop()
            yarn.stop()
    files = {item.path for item in request.session.items}
    whole = files.issuperset(_HERE.glob("test_oozie*.py")) and request.config.getoption("keyword") == ""
    if whole and request.session.testsfailed == failed:
        write_report(lab.records, time.monotonic() - began)
