"""Must show: Airflow itself runs conf/airflow to success, and through failures and their retries, without losing a sample.

Nothing is left running, and no secret is in a log. The tests use one Airflow, in the order in which they stand here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardwright.storage import HdfsStorage
from tests.cluster.daemon import wait_until
from tests.cluster.faulty import FOLDER, HOLD
from tests.cluster.hdfs import Hdfs
from tests.cluster.submitted import Job, on_yarn
from tests.cluster.yarn import Yarn
from tests.schedulers.airflow_lab import FAULTY, LATER, LOCAL, POOL, SAMPLES, Lab, make_lab
from tests.schedulers.airflow_report import write_report
from tests.spark.mnist import write_digits

pytestmark = pytest.mark.schedulers

_TEXT = """
Database (SQLite), DAG processor, scheduler (LocalExecutor) and API server on one machine. The DAG is
`conf/airflow/shardwright_prepare.py` with two datasets added to it; jobs read 1,600 digits, on `local[2]` unless something else
is said. Times are from the trigger, or from the fault where there is one. Logs are Airflow's own, without its lines about
itself, cut to a width.
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
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
        if request.config.getoption("keyword") == "":  # of a whole run
            write_report(lab.airflow.version, _TEXT, lab.records)
        shutil.rmtree(folder)
    assert not left, "processes that Airflow left behind:\n" + "\n".join(left)


@pytest.fixture
def scheduled(lab: Lab) -> Iterator[Lab]:
    """With the scheduler running; nothing is held, and no job runs."""
    if not lab.airflow.running:
        lab.airflow.start("patient", "impatient", "trainer")
    lab.release()
    yield lab
    lab.release()
    wait_until(lambda: not lab.jobs(), "the end of all jobs", 120)


def test_dags_test(lab: Lab) -> None:
    """`airflow dags test`, to success, and where there is nothing new."""
    output, began = lab.output("asset"), time.monotonic()
    printed = lab.airflow.run("dags", "test", "impatient", "--conf", json.dumps({"output": str(output)}))
    assert lab.latest(output) == "v000001"
    lab.record("`airflow dags test`", "new input, prepare, verify, report", began, str(output), _of_tasks(printed))
    began = time.monotonic()
    printed = lab.airflow.run("dags", "test", "impatient", "--conf", json.dumps({"output": str(output)}))
    assert "timed out" in printed
    assert "jobs/verify.py" not in printed
    assert lab.latest(output) == "v000001"
    lab.record(
        "nothing new", "the sensor looked, waited, and gave up: the run is skipped", began, str(output), _of_tasks(printed)
    )


def test_the_dag_is_imported(scheduled: Lab) -> None:
    """And a file that is no DAG is not, so that this can fail."""
    wait_until(lambda: bool(_import_errors(scheduled)), "an import error", 60, every=0.5)
    assert [Path(one["filename"]).name for one in _import_errors(scheduled)] == ["broken.py"]


def test_input_that_comes_while_the_sensor_waits(scheduled: Lab) -> None:
    lab, output = scheduled, scheduled.output("asset")
    run, began = lab.trigger("patient", output), time.monotonic()
    run.until("new_input", "up_for_reschedule")
    for path in write_digits(lab.folder / "later", [np.arange(SAMPLES, SAMPLES + LATER)], "z").iterdir():
        path.rename(lab.source / path.name)
    try:
        tasks = run.end()
        assert {name: (task.state, task.tries) for name, task in tasks.items()} == {
            "new_input": ("success", 1), "prepare": ("success", 1), "verify": ("success", 1), "report": ("success", 1),
        }  # fmt: skip
        assert lab.latest(output) == "v000002"
        wait_until(lambda: bool(lab.airflow.runs("trainer")), "a run of the DAG that waits for the dataset", every=0.5)
        (follower,) = lab.airflow.runs("trainer")
        follower.end()
        assert f"train on {output} v000002" in follower.log("train")
        happened = "the sensor saw it at its next look; prepare, verify, report; the DAG that waits for the asset ran"
        logs = [*(run.log(task) for task in ("new_input", "prepare", "verify", "report")), follower.log("train")]
        lab.record("new input while the sensor waits", happened, began, str(output), *logs, samples=SAMPLES + LATER)
    finally:
        for path in lab.source.glob("z-*"):
            path.unlink()


def test_the_driver_is_killed(scheduled: Lab) -> None:
    """In the first try, when samples have been read; the second reads none again."""
    lab, output = scheduled, scheduled.output("killed")
    run = lab.trigger("patient", output)
    run.until("prepare", "running")
    wait_until(lambda: lab.passed(output, "read"), "the result of the read pass", 120)
    os.kill(lab.driver(), signal.SIGKILL)
    began = time.monotonic()
    lab.release()
    run.until("prepare", "up_for_retry")
    tasks = run.end()
    assert (tasks["prepare"].tries, tasks["verify"].tries) == (2, 1)
    assert not lab.begun()
    assert "exit code -9" in run.log("prepare", 1)
    happened = "the task was up for retry, and its second try went on after the read pass"
    lab.record("driver killed by kill -9", happened, began, str(output), run.log("prepare"))


def test_a_version_is_damaged(scheduled: Lab) -> None:
    """Before it is verified: that is no matter of trying again, and nobody is told of the version."""
    lab, output = scheduled, scheduled.output("damaged")
    run = lab.trigger("patient", output)
    run.until("prepare", "running")
    wait_until(lambda: lab.latest(output) is not None, "a version", 120)
    part = next(output.glob("v000001/train/**/*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    began = time.monotonic()
    tasks = run.end("failed")
    assert (tasks["verify"].state, tasks["verify"].tries, tasks["report"].state) == ("failed", 1, "upstream_failed")
    log = run.log("verify")
    assert part.name in log
    assert "verify of patient failed in try 1" in log  # the call-back
    happened = "verify failed at once, with the part's name, and was not tried again; report did not run; call-back"
    lab.record("a part damaged after it was published", happened, began, None, log)


def test_a_wrong_configuration(scheduled: Lab) -> None:
    lab, output, began = scheduled, scheduled.output("wrong"), time.monotonic()
    run = lab.trigger("impatient", output, settings=["shard.count=0"])
    tasks = run.end("failed")
    assert (tasks["prepare"].state, tasks["prepare"].tries, tasks["verify"].state) == ("failed", 1, "upstream_failed")
    log = run.log("prepare")
    assert "prepare of impatient failed in try 1" in log
    assert "[shard] count: input should be greater than or equal to 1, found 0" in log.partition("failed in try 1")[2]
    lab.record("a wrong configuration", "prepare failed at once, exit code 2; call-back", began, None, log)


def test_a_failure_that_stays(scheduled: Lab) -> None:
    """Tried again as often as is said, then the call-back. Spark takes a keytab and ignores it where there is no Kerberos."""
    lab, output, began = scheduled, scheduled.output("stays"), time.monotonic()
    run = lab.trigger(
        "impatient", output, settings=[f"read.path={lab.folder}/nothing"], principal="ada@EXAMPLE.ORG", keytab=str(lab.keytab)
    )
    tasks = run.end("failed")
    assert (tasks["prepare"].state, tasks["prepare"].tries, tasks["verify"].state) == ("failed", 4, "upstream_failed")
    log = run.log("prepare")
    assert log.count(f"--keytab {lab.keytab}") == 4
    assert log.count("prepare of impatient failed") == 1
    lab.record("no input where it should be", "three retries, each later than the one before; call-back", began, None, log)


def test_parameters_are_checked(scheduled: Lab) -> None:
    """Before a run is made: in cluster mode there is no result to go on with."""
    for name, value in (("spark", ["--deploy-mode", "cluster"]), ("settings", ["shard.count"]), ("wait_seconds", -1)):
        with pytest.raises(AssertionError, match=f"400.*{name}"):
            scheduled.trigger("patient", scheduled.output("never"), **{name: value})


def test_a_task_is_marked_failed(scheduled: Lab) -> None:
    """By a person, while its job runs: the job ends too, with all that it started."""
    lab, output = scheduled, scheduled.output("marked")
    lab.ask(HOLD)
    run = lab.trigger("patient", output)
    run.until("new_input", "success")
    wait_until(lab.begun, "a task that reads", 120)
    assert lab.jobs()
    run.mark("prepare", "failed")
    began = time.monotonic()
    wait_until(lambda: not lab.jobs(), "the end of the job", 60)
    seconds = time.monotonic() - began
    assert run.end("failed")["prepare"].tries == 1
    log = run.log("prepare")
    assert lab.latest(output) is None
    lab.record(
        "task marked failed while its job runs", f"the job's processes were gone after {seconds:.0f} s", began, None, log
    )


def test_two_dags_of_one_dataset(scheduled: Lab) -> None:
    """They share a pool; and two runs of one DAG never run at once."""
    lab, output, began = scheduled, scheduled.output("shared"), time.monotonic()
    lab.ask(HOLD)
    first = lab.trigger("patient", output)
    first.until("new_input", "success")
    wait_until(lab.begun, "a task that reads", 120)
    second = lab.trigger("impatient", output)
    second.until("new_input", "success")
    another = lab.trigger("patient", output)
    second.until("prepare", "scheduled")
    pool = lab.airflow.request("GET", f"pools/{POOL}")
    assert (pool["occupied_slots"], pool["scheduled_slots"], another.state) == (1, 1, "queued")
    another.delete()
    lab.release()
    tasks, others = first.end(), second.end()
    assert tasks["prepare"].ended <= others["prepare"].began
    assert (tasks["prepare"].tries, others["prepare"].tries) == (1, 1)
    assert lab.latest(output) == "v000001"
    happened = (
        "the second DAG's prepare waited for the pool's slot, and found nothing to do; a second run of the first DAG was queued"
    )
    lab.record("two DAGs of one dataset at once", happened, began, str(output), first.log("prepare"), second.log("prepare"))


def test_a_job_by_hand_holds_the_dataset(scheduled: Lab) -> None:
    """A pool knows nothing of it; exit code 3 does."""
    lab, output, began = scheduled, scheduled.output("by-hand"), time.monotonic()
    lab.ask(HOLD)
    words = [*LOCAL, "jobs/prepare.py", str(lab.folder / "digits.toml"), "--output", str(output)]
    job = Job(lab.folder / "by-hand.log", words, {FOLDER: str(lab.asked), **lab.airflow.mark})
    try:
        job.until(lab.begun, "a task that reads")
        run = lab.trigger("impatient", output, wait_seconds=0)
        run.until("prepare", "up_for_retry")
        lab.release()
        job.succeed()
        tasks = run.end()
    finally:
        job.kill()
    assert tasks["prepare"].tries > 1
    assert "another job holds the dataset" in run.log("prepare", 1)
    happened = "exit code 3, tried again later; then there was nothing left to do, and the version was verified and reported"
    lab.record("a job started by hand holds the dataset", happened, began, str(output), run.log("prepare"))


def test_no_secret_is_in_a_log(scheduled: Lab) -> None:
    """Of what the tasks' environment and files held, in all that Airflow has written so far but its database."""
    folder = scheduled.airflow.folder
    logs = [path for path in folder.rglob("*.log") if path.is_file()]
    assert len(logs) > 30
    for name, secret in scheduled.planted.items():
        found = [str(path) for path in logs if secret in path.read_text(errors="replace")]
        assert not found, f"{name} is in {found}"
    scheduled.record("secrets", f"a connection's password, a keytab's and a token's content: in none of {len(logs)} logs",
                     time.monotonic(), None)  # fmt: skip


def test_on_a_cluster(lab: Lab, hdfs: Hdfs, yarn: Yarn, tmp_path: Path) -> None:
    """From HDFS to HDFS, on YARN in client mode."""
    source = HdfsStorage(hdfs.new_folder("input"))
    source.make_directory()
    for path in lab.source.iterdir():
        source.write(path.name, path.read_bytes())
    url, began = hdfs.new_folder("airflow"), time.monotonic()
    own = make_lab(tmp_path, hdfs.environment, source.url)
    try:
        conf = {"output": url, "spark": [*on_yarn(), "--py-files", str(FAULTY)]}
        printed = own.airflow.run("dags", "test", "impatient", "--conf", json.dumps(conf))
    finally:
        left = own.airflow.stop()
    assert not left
    assert len(yarn.applications("FINISHED")) == 2
    own.record("HDFS and YARN", "`airflow dags test`: new input, prepare, verify, report; two applications", began, url,
               _of_tasks(printed))  # fmt: skip
    lab.records += own.records


def _import_errors(lab: Lab) -> list[dict[str, str]]:
    return list(lab.airflow.request("GET", "importErrors")["import_errors"])


def _of_tasks(printed: str) -> str:
    """What `airflow dags test` printed of tasks."""
    kept = ("unusual_prefix", "DAG TEST", "Skipping task", "Rescheduling")
    return "\n".join(line for line in printed.splitlines() if any(word in line for word in kept))
