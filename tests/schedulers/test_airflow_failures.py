"""Must show: through failures and their retries no sample is lost, no job is left, and no secret is in a log of Airflow."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.daemon import wait_until
from tests.cluster.faulty import FOLDER, HOLD
from tests.cluster.submitted import Job
from tests.schedulers.airflow import Run
from tests.schedulers.airflow_lab import LOCAL, PASSWORD, POOL, RETRY_SECONDS, Lab

pytestmark = pytest.mark.schedulers

_JWT = r"eyJ[\w-]{10,}\.eyJ"


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
    happened = "up for retry; the second try said the read pass's result again, but read no sample, and went on from there"
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
    secret = f"spark.hadoop.planted.password={lab.planted[PASSWORD]}"
    run = lab.trigger(
        "impatient", output, settings=[f"read.path={lab.folder}/nothing"], spark=[*LOCAL, "--conf", secret],
        principal="ada@EXAMPLE.ORG", keytab=str(lab.keytab),
    )  # fmt: skip
    tasks = run.end("failed")
    assert (tasks["prepare"].state, tasks["prepare"].tries, tasks["verify"].state) == ("failed", 4, "upstream_failed")
    waits = run.waits("prepare")
    assert [wait >= RETRY_SECONDS * 2**number for number, wait in enumerate(waits)] == [True, True, True], waits
    log = run.log("prepare")
    assert "planted.password=***" in log
    assert log.count(f"--keytab {lab.keytab}") == 4
    assert log.count("prepare of impatient failed") == 1
    lab.record(
        "no input where it should be",
        f"retries after {', '.join(f'{wait:.0f}' for wait in waits)} s; then the call-back",
        began,
        None,
        log,
    )


def test_parameters_are_checked(scheduled: Lab) -> None:
    """Before a run is made: in cluster mode there is no result to go on with."""
    for name, value in (("spark", ["--deploy-mode", "cluster"]), ("settings", ["shard.count"]), ("wait_seconds", -1)):
        with pytest.raises(AssertionError, match=f"400.*{name}"):
            scheduled.trigger("patient", scheduled.output("never"), **{name: value})


def test_a_task_is_marked_failed(scheduled: Lab) -> None:
    """By a person, while its job runs: the job ends too, with all that it started."""
    lab, output = scheduled, scheduled.output("marked")
    run = _held_run(lab, output)
    run.mark("prepare", "failed")
    began = time.monotonic()
    wait_until(lambda: not lab.jobs(), "the end of the job", 60)
    seconds = time.monotonic() - began
    assert run.end("failed")["prepare"].tries == 1
    assert lab.latest(output) is None
    assert "failed in try" not in run.log("prepare")
    happened = f"the job's processes were gone after {seconds:.0f} s; no call-back, since a person knows"
    lab.record("task marked failed while its job runs", happened, began, None, run.log("prepare"))


def test_a_task_is_cleared(scheduled: Lab) -> None:
    """By a person, while its job runs: that job ends before another one begins."""
    lab, output = scheduled, scheduled.output("cleared")
    run, driver = _held_run(lab, output), lab.driver()
    run.clear("prepare")
    began = time.monotonic()
    wait_until(lambda: driver not in lab.jobs(), "the end of the job", 60)
    seconds = time.monotonic() - began
    lab.release()
    run.end()
    happened = f"the job was gone after {seconds:.0f} s; the next try took the dataset's lock over, and published"
    lab.record("task cleared while its job runs", happened, began, str(output), run.log("prepare"))


def test_two_dags_of_one_dataset(scheduled: Lab) -> None:
    """They share a pool; and two runs of one DAG never run at once."""
    lab, output, began = scheduled, scheduled.output("shared"), time.monotonic()
    first = _held_run(lab, output)
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
    """Of those that tasks had in their environment and files, and of Airflow's own tokens: in all that it has logged so far."""
    folder = scheduled.airflow.folder
    logs = [path for path in folder.rglob("*.log") if path.is_file()]
    assert len(logs) > 30
    for name, secret in {**scheduled.planted, "a token of Airflow's": _JWT}.items():
        found = [str(path) for path in logs if re.search(secret, path.read_text(errors="replace"))]
        assert not found, f"{name} is in {found}"
    scheduled.record("secrets", f"{', '.join(scheduled.planted)}, Airflow's own tokens: in none of {len(logs)} logs",
                     time.monotonic(), None)  # fmt: skip


def _held_run(lab: Lab, output: Path) -> Run:
    """A run whose job reads samples until the lab releases it."""
    lab.ask(HOLD)
    run = lab.trigger("patient", output)
    run.until("new_input", "success")
    wait_until(lab.begun, "a task that reads", 120)
    return run
