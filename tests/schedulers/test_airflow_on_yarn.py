"""Must show: the DAG of conf/airflow does on a cluster what it does on one machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from shardwright.storage import HdfsStorage
from tests.cluster.hdfs import Hdfs
from tests.cluster.submitted import on_yarn
from tests.cluster.yarn import Yarn
from tests.schedulers.airflow_lab import FAULTY, Lab, make_lab
from tests.schedulers.airflow_report import of_tasks

pytestmark = pytest.mark.schedulers


def test_on_a_cluster(airflow_lab: Lab, hdfs: Hdfs, yarn: Yarn, tmp_path: Path) -> None:
    """From HDFS to HDFS, on YARN in client mode."""
    source = HdfsStorage(hdfs.new_folder("input"))
    source.make_directory()
    for path in airflow_lab.source.iterdir():
        source.write(path.name, path.read_bytes())
    url, began = hdfs.new_folder("airflow"), time.monotonic()
    own = make_lab(tmp_path, hdfs.environment, source.url)
    try:
        conf = {"output": url, "spark": [*on_yarn(), "--py-files", str(FAULTY)]}
        printed = own.airflow.run("dags", "test", "impatient", "--conf", json.dumps(conf))
    finally:
        left = own.airflow.stop()
    assert not left
    assert not any(secret in printed for secret in own.planted.values())
    assert len(yarn.applications("FINISHED")) == 2
    own.record("HDFS and YARN", "`airflow dags test`: new input, prepare, verify, report; two applications", began, url,
               of_tasks(printed))  # fmt: skip
    airflow_lab.records += own.records
