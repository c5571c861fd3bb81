"""Must show: the coordinator starts workflows by its clock, when the day's data is whole; a bundle starts coordinators."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from shardwright.storage import HdfsStorage
from tests.cluster.daemon import wait_until
from tests.conftest import ROOT, SAMPLES
from tests.schedulers.oozie_lab import DONE, FAILED, OozieLab

pytestmark = pytest.mark.schedulers

COORDINATOR = "oozie.coord.application.path"
BUNDLE = "oozie.bundle.application.path"


def minutes(lab: OozieLab, application: str, file: str, begin: datetime, count: int, **changed: str) -> dict[str, str]:
    """Properties of so many runs, one a minute."""
    given = lab.properties(**changed)
    del given["oozie.wf.application.path"]
    clock = {"start": _minute(begin), "end": _minute(begin + timedelta(minutes=count))}
    return {**given, **clock, "frequency": "1", application: f"${{app}}/{file}"}


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M}Z"


def put_day(lab: OozieLab, day: datetime, done: bool) -> HdfsStorage:
    """Digits as the input of that day; the URL of its parent is `input`."""
    storage = HdfsStorage(f"{lab.oozie.hdfs.new_folder('input')}/{day:%Y-%m-%d}")
    storage.make_directory()
    for path in sorted((SAMPLES / "mnist").iterdir()):
        storage.write(path.name, path.read_bytes())
    if done:
        storage.write(DONE, b"")
    return storage


def runs(lab: OozieLab, coordinator: str) -> list[dict[str, Any]]:
    """The coordinator's actions, in the order of their times."""
    return sorted(lab.oozie.job(coordinator)["actions"], key=lambda run: run["actionNumber"])


def on_time(lab: OozieLab, run: dict[str, Any]) -> bool:
    """Whether its workflow was not made before its time."""
    made = lab.oozie.job(run["externalId"])["createdTime"]
    return parsedate_to_datetime(made) >= parsedate_to_datetime(run["nominalTime"])


def test_the_clock_and_the_flag_start_workflows(oozie_lab: OozieLab) -> None:
    lab, begin = oozie_lab, datetime.now(UTC).replace(second=0)
    day = put_day(lab, begin, done=False)
    properties = minutes(lab, COORDINATOR, "coordinator.xml", begin, 3, input=day.url.rpartition("/")[0])
    job = lab.oozie.submit(properties)
    began = time.monotonic()
    wait_until(lambda: len(runs(lab, job)) == 3, "three runs", 180)
    wait_until(lambda: f"{day.url}/{DONE}, Exists? :false" in lab.oozie.job_log(job), "a look for the flag")
    assert {run["status"] for run in runs(lab, job)} == {"WAITING"}
    assert runs(lab, job)[0]["missingDependencies"] == f"{day.url}/{DONE}"
    assert not HdfsStorage(properties["output"]).exists("")

    day.write(DONE, b"")
    flagged = time.monotonic()
    wait_until(lambda: any(run["status"] == "RUNNING" for run in runs(lab, job)), "a workflow that the flag started", 60)
    seen = time.monotonic() - flagged
    lab.oozie.wait(job, "SUCCEEDED")
    first, *others = runs(lab, job)
    assert [run["status"] for run in (first, *others)] == ["SUCCEEDED"] * 3
    assert all(on_time(lab, run) for run in (first, *others))
    assert "prepare" in lab.oozie.actions(first["externalId"])
    assert all("exit_code=4" in lab.oozie.actions(run["externalId"])["check"]["data"].splitlines() for run in others)
    assert lab.marks(f"{properties['marks']}/{begin:%Y-%m-%d}") == [DONE]
    lost = lab.check(properties["output"])
    happened = f"three runs, one a minute, WAITING; {seen:.0f} s after the flag RUNNING; none before its minute; all SUCCEEDED"
    lab.record("a coordinator", happened, time.monotonic() - began, lost, [job, first["externalId"]])

    wrong = (ROOT / "conf/datasets/mnist.toml").read_text(encoding="utf-8").replace("count = 4", "count = 0")
    app = HdfsStorage(lab.given["app"])
    app.write("corrected.toml", wrong.encode())
    began = time.monotonic()
    again = lab.oozie.submit(
        {**properties, "config": "${app}/corrected.toml", "end": f"{begin + timedelta(minutes=1):%Y-%m-%dT%H:%M}Z"}
    )
    wait_until(lambda: [run["status"] for run in runs(lab, again)] == ["KILLED"], "the end of a run that is wrong", 180)
    assert lab.marks(f"{properties['marks']}/{begin:%Y-%m-%d}") == [FAILED]
    app.write("corrected.toml", wrong.replace("count = 0", "count = 4").encode())
    lab.oozie.rerun_action(again, 1)
    wait_until(lambda: [run["status"] for run in runs(lab, again)] == ["SUCCEEDED"], "the end of its rerun", 300)
    assert lab.marks(f"{properties['marks']}/{begin:%Y-%m-%d}") == [DONE]
    lost = lab.check(properties["output"])
    happened = "the run was KILLED; when the configuration was corrected, a rerun of this run SUCCEEDED"
    lab.record("a coordinator with a wrong configuration", happened, time.monotonic() - began, lost, [again])


def test_a_bundle(oozie_lab: OozieLab) -> None:
    lab = oozie_lab
    begin = (datetime.now(UTC) + timedelta(seconds=90)).replace(second=0)
    day = put_day(lab, begin, done=True)
    properties = minutes(lab, BUNDLE, "bundle.xml", begin, 1, input=day.url.rpartition("/")[0])
    began = time.monotonic()
    job = lab.oozie.submit(properties)
    lab.oozie.wait(job, "SUCCEEDED")
    (coordinator,) = lab.oozie.job(job)["bundleCoordJobs"]
    assert coordinator["coordJobName"] == "mnist"
    (run,) = runs(lab, coordinator["coordJobId"])
    assert run["status"] == "SUCCEEDED"
    assert on_time(lab, run)
    assert lab.marks(f"{properties['marks']}/{begin:%Y-%m-%d}") == [DONE]
    lost = lab.check(properties["output"])
    happened = "nothing before its start, which was to come; then its coordinator ran, and SUCCEEDED"
    lab.record("a bundle", happened, time.monotonic() - began, lost, [job, run["externalId"]])
