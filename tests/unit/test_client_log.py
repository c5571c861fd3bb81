"""What is told of the log of Spark's client for YARN (Spark 4.3, shortened)."""

from __future__ import annotations

import subprocess
import sys

from shardwright.spark.client_log import told

ID = "application_1795366360577_0005"


def report(state: str, status: str, diagnostics: str = "N/A") -> list[str]:
    details = [("client token", "N/A"), ("diagnostics", diagnostics), ("queue", "root.default"), ("final status", status)]
    lines = [
        f"\t {name}: {value}\n" for name, value in [*details, ("tracking URL", "http://rm:8088/proxy/a/"), ("user", "ada")]
    ]
    return [f"17:06:56 INFO Client: Application report for {ID} (state: {state})\n", "17:06:56 INFO Client: \n", *lines]


START = [
    f"17:06:53 INFO Client: Application ID is assigned: {ID}\n",
    "17:06:55 INFO Client: Uploading resource file:/a.zip -> hdfs://a\n",
    *report("ACCEPTED", "UNDEFINED"),
]
WAITS = f"shardwright: {ID} waits in queue root.default; watch it: http://rm:8088/proxy/a/\n"
RUNS = f"shardwright: {ID} runs\n"


def lines(*given: str, cluster: bool = True) -> list[str]:
    return list(told("".join(given).splitlines(keepends=True), cluster=cluster))


def test_a_job_that_ends_well() -> None:
    log = [*START, *report("RUNNING", "UNDEFINED"), *report("RUNNING", "UNDEFINED"), *report("FINISHED", "SUCCEEDED")]
    where = f"what it printed: yarn logs -applicationId {ID} -log_files stdout\n"
    assert lines(*log) == [WAITS, RUNS, f"shardwright: {ID} is done; {where}"]
    assert lines(*log, cluster=False) == [WAITS, RUNS]  # the driver printed here


def test_a_job_that_fails_before_it_has_begun() -> None:
    """The diagnostics are many lines then: they end with what the container printed."""
    first = f"Application {ID} failed 1 times due to AM Container exited with  exitCode: 13"
    diagnostics = f"{first}\nFailing this attempt.\n[stderr]\n17:12:28 ERROR ApplicationMaster: no\n\tat a.b(C.scala)\n"
    error = "17:12:29 ERROR Client: Application diagnostics message: "
    where = f"what it printed: yarn logs -applicationId {ID} -log_files stdout\n"
    log = [*START, *report("FAILED", "FAILED", diagnostics), error + diagnostics]
    assert lines(*log) == [WAITS, f"{error}{first}\n", f"shardwright: {ID} ended as FAILED; {where}"]
    assert "".join(lines(*log, cluster=False)) == f"{WAITS}{error}{diagnostics}"  # the driver may go on to say something


def test_a_job_that_fails_keeps_the_reason() -> None:
    error = "17:12:29 ERROR Client: Application diagnostics message: User application exited with status 3\n"
    trace = [
        f'Exception in thread "main" org.apache.spark.SparkException: Application {ID} finished with failed status\n',
        "\tat org.apache.spark.deploy.yarn.Client.run(Client.scala:1366)\n",
    ]
    log = [*START, *report("RUNNING", "UNDEFINED"), *report("FINISHED", "FAILED"), error, *trace]
    where = f"what it printed: yarn logs -applicationId {ID} -log_files stdout\n"
    assert lines(*log) == [WAITS, RUNS, error, f"shardwright: {ID} ended as FAILED; {where}"]


def test_all_else_is_passed_on() -> None:
    driver = [
        "read: 1 of 2 tasks\n",
        "Traceback (most recent call last):\n",
        "\tat somewhere\n",
        "\t diagnostics: mine\n",
        "no end",
    ]
    assert lines(*driver) == driver
    assert lines(*START, *driver, cluster=False) == [WAITS, *driver]


def test_it_outlives_an_exec() -> None:
    program = (
        "import os; from shardwright.spark.client_log import tell_from_here_on; tell_from_here_on(cluster=False);"
        f"os.execv('/bin/sh', ['sh', '-c', 'echo 17:06:53 INFO Client: {ID} >&2; echo error >&2; exit 3'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "error\n")
