"""Must show: whatever fails under a workflow, it says so and leaves its mark; no version is half there; a rerun publishes."""

from __future__ import annotations

import time

import pytest

from shardwright.format import layout
from shardwright.storage import HdfsStorage
from shardwright.storage.lock import Lock
from tests.cluster.daemon import wait_until
from tests.conftest import SAMPLES
from tests.schedulers.oozie_lab import DONE, FAILED, OozieLab
from tests.schedulers.planted import PLANTED

pytestmark = pytest.mark.schedulers

DRIVER = "org.apache.spark.deploy.SparkSubmit"
LAUNCHER = "org.apache.oozie.action.hadoop.LauncherAM"


@pytest.mark.parametrize("victim", [DRIVER, LAUNCHER])
def test_a_process_is_killed(oozie_lab: OozieLab, victim: str) -> None:
    lab, properties = oozie_lab, oozie_lab.properties()
    output = properties["output"]
    job = lab.oozie.submit(properties)
    wait_until(lambda: lab.read_pass_is_done(output), "the result of the read pass", 300)
    lab.kill(victim)
    began = time.monotonic()
    lab.oozie.wait(job, "KILLED")
    assert [*lab.oozie.actions(job)][-3:] == ["unmark", "why", "failed"]
    assert "prepare failed" in lab.oozie.actions(job)["failed"]["errorMessage"]
    assert lab.marks(properties["marks"]) == [FAILED]
    assert layout.LATEST not in HdfsStorage(output).names()
    wait_until(lambda: not lab.oozie.yarn.applications("RUNNING,ACCEPTED"), "the end of what the job had on YARN")

    lab.oozie.rerun(job, {"oozie.wf.rerun.failnodes": "true"})
    lab.oozie.wait(job, "SUCCEEDED")
    assert lab.marks(properties["marks"]) == [DONE]
    lost = lab.check(output)
    what = {DRIVER: "driver killed by kill -9", LAUNCHER: "launcher killed by kill -9"}[victim]
    happened = "prepare failed; _FAILED was left; a rerun of the failed nodes went on, published and verified"
    lab.record(what, happened, time.monotonic() - began, lost, [job])


def test_a_wrong_configuration(oozie_lab: OozieLab) -> None:
    lab, began = oozie_lab, time.monotonic()
    properties = lab.properties(prepareOptions=f"--set read.path={lab.raw} --set shard.count=0")
    job = lab.oozie.submit(properties)
    lab.oozie.wait(job, "KILLED")
    nodes = lab.oozie.actions(job)
    assert [*nodes] == [":start:", "check", "is-due", "unmark", "why", "wrong-check"]
    assert "greater than or equal to 1, found 0" in nodes["wrong-check"]["errorMessage"]
    assert lab.marks(properties["marks"]) == [FAILED]
    assert not HdfsStorage(properties["output"]).exists("")
    happened = "check said so (exit code 2), and the workflow with it, in the job's own words; no job was started on YARN"
    lab.record("a wrong configuration", happened, time.monotonic() - began, None, [job])


def test_the_input_is_away_and_comes(oozie_lab: OozieLab) -> None:
    lab, began = oozie_lab, time.monotonic()
    raw = HdfsStorage(lab.oozie.hdfs.new_folder("later"))
    properties = lab.properties(prepareOptions=f"--set read.path={raw.url}")
    job = lab.oozie.submit(properties)
    lab.oozie.wait(job, "KILLED")
    assert [*lab.oozie.actions(job)] == [":start:", "check", "is-due", "prepare", "unmark", "why", "failed"]
    assert f"no file or folder {raw.url}" in lab.said(job, "prepare")
    assert lab.marks(properties["marks"]) == [FAILED]

    raw.make_directory()
    for path in sorted((SAMPLES / "mnist").iterdir()):
        raw.write(path.name, path.read_bytes())
    lab.oozie.rerun(job, {"oozie.wf.rerun.failnodes": "true"})
    lab.oozie.wait(job, "SUCCEEDED")
    assert lab.marks(properties["marks"]) == [DONE]
    lost = lab.check(properties["output"])
    happened = "prepare failed (exit code 1); when the input was there, a rerun published"
    lab.record("no input where it should be", happened, time.monotonic() - began, lost, [job])


@pytest.mark.parametrize("held", ["skip", "fail"])
def test_another_job_holds_the_dataset(oozie_lab: OozieLab, held: str) -> None:
    lab, began = oozie_lab, time.monotonic()
    properties = lab.properties(held=held)
    storage = HdfsStorage(properties["output"])
    storage.make_directory()
    with Lock(storage, layout.LOCK):
        job = lab.oozie.submit(properties)
        lab.oozie.wait(job, {"skip": "SUCCEEDED", "fail": "KILLED"}[held])
    assert "another publish holds" in lab.said(job, "prepare")
    assert layout.LATEST not in storage.names()
    assert lab.marks(properties["marks"]) == {"skip": [], "fail": [FAILED]}[held]
    happened = {
        "skip": "exit code 3: the workflow ended well, without a mark",
        "fail": "exit code 3: the workflow failed, and left _FAILED",
    }
    lab.record(f"another job holds the dataset, `held={held}`", happened[held], time.monotonic() - began, None, [job])


def test_no_log_holds_a_secret(oozie_lab: OozieLab) -> None:
    """Of Oozie's server, of its jobs as it gives them, and of all containers."""
    lab, began = oozie_lab, time.monotonic()
    job = lab.oozie.submit({**lab.properties(output=lab.reference), "planted.password": PLANTED["job.properties"]})
    lab.oozie.wait(job, "SUCCEEDED")
    logs = [path for path in lab.oozie.hdfs.logs.rglob("*") if path.is_file()]
    assert {lab.oozie.log, *lab.oozie.yarn.containers.glob("*/*/stdout")} <= {*logs}
    assert "exit_code=4" in lab.oozie.yarn.log(lab.oozie.actions(job)["check"]["externalId"])  # so these are the logs
    texts = {str(path): path.read_text(errors="replace") for path in logs} | {job: lab.oozie.job_log(job)}
    found = [(where, name) for where, text in texts.items() for name, secret in PLANTED.items() if secret in text]
    assert not found
    happened = f"one in each of {', '.join(PLANTED)}: in none of {len(texts)} logs"
    lab.record("secrets", happened, time.monotonic() - began, None)
