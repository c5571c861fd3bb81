"""Must show: Oozie's own server takes the files of conf/oozie, and runs them on YARN and HDFS to success."""

from __future__ import annotations

import time
from pathlib import Path

import pyspark
import pytest

from shardwright.format.versions import read_manifest
from shardwright.spark.shipping import Archives
from shardwright.storage import HdfsStorage
from tests.schedulers.deployed import FILES
from tests.schedulers.oozie import jar_of
from tests.schedulers.oozie_client import OozieError
from tests.schedulers.oozie_lab import DONE, OozieLab
from tests.schedulers.planted import PLANTED

pytestmark = pytest.mark.schedulers


def test_the_server_takes_each_definition(oozie_lab: OozieLab) -> None:
    began = time.monotonic()
    definitions = sorted(FILES.glob("*.xml"))
    for path in definitions:
        assert "Valid" in oozie_lab.oozie.validate(path.read_text(encoding="utf-8"))
    broken = (FILES / "workflow.xml").read_text(encoding="utf-8").replace("<exec>", "<exek>").replace("</exec>", "</exek>")
    with pytest.raises(OozieError, match=r"E0701.*exek"):
        oozie_lab.oozie.validate(broken)
    names = ", ".join(path.name for path in definitions)
    happened = f"{names}: valid; a workflow with a misspelt element: refused with its line"
    oozie_lab.record("`oozie validate`", happened, time.monotonic() - began, None)


def test_a_workflow_publishes_and_then_has_nothing_to_do(oozie_lab: OozieLab) -> None:
    lab, began = oozie_lab, time.monotonic()
    properties = lab.properties() | {"planted.password": PLANTED["job.properties"]}
    first = lab.oozie.submit(properties)
    lab.oozie.wait(first, "SUCCEEDED")
    seconds = time.monotonic() - began
    nodes = lab.oozie.actions(first)
    assert [*nodes] == [":start:", "check", "is-due", "prepare", "is-published", "verify", "mark", "end"]
    version, manifest = read_manifest(HdfsStorage(properties["output"]))
    assert {f"version={version}", f"content_id={manifest.content_id}", "status=published", "exit_code=0"} <= set(
        nodes["prepare"]["data"].splitlines()
    )
    assert lab.marks(properties["marks"]) == [DONE]
    lost = lab.check(properties["output"])
    lab.record("a workflow", "check, prepare, verify, mark; version and content_id captured", seconds, lost, [first])

    began = time.monotonic()
    second = lab.oozie.submit(properties)
    lab.oozie.wait(second, "SUCCEEDED")
    assert [*lab.oozie.actions(second)] == [":start:", "check", "is-due", "end"]
    assert "exit_code=4" in lab.oozie.actions(second)["check"]["data"].splitlines()
    lost = lab.check(properties["output"])
    lab.record("the same again", "check found nothing to do (exit code 4)", time.monotonic() - began, lost, [second])


def test_a_version_without_its_mark_is_verified(oozie_lab: OozieLab) -> None:
    """Whoever published it may have been killed before it was verified."""
    lab, began = oozie_lab, time.monotonic()
    properties = lab.properties(output=lab.reference)
    job = lab.oozie.submit(properties)
    lab.oozie.wait(job, "SUCCEEDED")
    assert [*lab.oozie.actions(job)] == [":start:", "check", "is-due", "verify", "mark", "end"]
    assert lab.marks(properties["marks"]) == [DONE]
    lost = lab.check(properties["output"])
    lab.record("a version that nobody verified", "verified, then marked", time.monotonic() - began, lost, [job])


def test_the_spark_action(oozie_lab: OozieLab) -> None:
    lab = oozie_lab
    spark = Path(pyspark.__path__[0])
    jars = [*spark.glob("jars/*.jar"), *spark.glob("python/lib/*.zip"), jar_of("oozie-sharelib-spark")]
    lab.oozie.share("spark4", jars)
    lab.oozie.update_sharelib()
    archives = HdfsStorage(f"{lab.oozie.hdfs.url}/user/{lab.oozie.user}/.shardwright")
    (environment,) = [name for name in archives.names() if name.startswith("environment-")]
    properties = lab.properties() | {
        "oozie.wf.application.path": "${app}/workflow-spark.xml",
        "environment": f"{archives.url}/{environment}",
        "sparkArchive": Archives(archives.url, print).spark(),
        "setting": f"read.path={lab.raw}",
        "oozie.action.sharelib.for.spark": "spark4",
    }
    began = time.monotonic()
    job = lab.oozie.submit(properties)
    lab.oozie.wait(job, "SUCCEEDED")
    assert [*lab.oozie.actions(job)] == [":start:", "prepare", "verify", "mark", "end"]
    assert {action["type"] for action in lab.oozie.actions(job).values()} >= {"spark", "fs"}
    assert lab.marks(properties["marks"]) == [DONE]
    lost = lab.check(properties["output"])
    lab.record("the spark action", "prepare and verify in cluster mode, mark", time.monotonic() - began, lost, [job])
