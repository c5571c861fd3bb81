"""Must show: Airflow itself runs conf/airflow to success. The first test comes first: then no scheduler runs beside it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cluster.daemon import wait_until
from tests.schedulers.airflow_lab import LATER, SAMPLES, Lab
from tests.schedulers.airflow_report import of_tasks
from tests.spark.mnist import write_digits

pytestmark = pytest.mark.schedulers


def test_dags_test(airflow_lab: Lab) -> None:
    """`airflow dags test`, to success, and where there is nothing new."""
    lab, output, began = airflow_lab, airflow_lab.output("asset"), time.monotonic()
    printed = lab.airflow.run("dags", "test", "impatient", "--conf", json.dumps({"output": str(output)}))
    assert lab.latest(output) == "v000001"
    lab.record("`airflow dags test`", "new input, prepare, verify, report", began, str(output), of_tasks(printed))
    began = time.monotonic()
    printed = lab.airflow.run("dags", "test", "impatient", "--conf", json.dumps({"output": str(output)}))
    assert "timed out" in printed
    assert "jobs/verify.py" not in printed
    assert lab.latest(output) == "v000001"
    lab.record(
        "nothing new",
        "the sensor looked, and gave up after the second that it had: the run is skipped",
        began,
        str(output),
        of_tasks(printed),
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


def _import_errors(lab: Lab) -> list[dict[str, str]]:
    return list(lab.airflow.request("GET", "importErrors")["import_errors"])
