"""A dataset in Airflow 3: wait for new input, prepare it, verify the version, report it. How to set it up: docs/airflow.md.

Below, HOME and one call of `dataset_dag` for each dataset are what an operator changes. Tasks call ./spark-submit.sh of a
checkout on the worker: SparkSubmitOperator starts binaries of three names alone, and makes one failure of all exit codes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Thread
from typing import IO, Any

from airflow.sdk import DAG, Asset, AssetAlias, Context, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

HOME = "/opt/shardwright"
"""The checkout, on each worker."""

FAILED, WRONG_CALL, HELD, NOTHING_NEW = 1, 2, 3, 4
"""Exit codes of jobs: docs/jobs.md."""

PATIENCE = timedelta(seconds=3)
"""How long a job may take to end when its task is ended; Airflow ends the task itself by force after 5 s."""

SECRET = re.compile(r"(?i)^([^=]*(?:secret|password|token|access\.?key)[^=]*=).*", re.S)
"""A word whose value is not for the log; the names are those of spark.redaction.regex."""

PUBLISHED = AssetAlias("shardwright")
log = logging.getLogger(__name__)


def dataset_dag(
    dag_id: str,
    *,
    config: str,
    output: str | None = None,
    spark: Sequence[str] = ("--master", "yarn"),
    schedule: str | None = "@daily",
    pool: str = "shardwright",
    check_every: timedelta = timedelta(minutes=10),
    give_up_after: timedelta = timedelta(hours=20),
    retries: int = 3,
    retry_delay: timedelta = timedelta(minutes=2),
) -> DAG:
    """The DAG of one dataset. The options of the job are defaults, that a run may change.

    DAGs of one `pool` share its slots. A run for which no new input came within `give_up_after` is skipped.
    """

    @dag(
        dag_id,
        description=f"{config}: raw data in, equal and verified shards out",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": retries, "retry_delay": retry_delay, "retry_exponential_backoff": 2,
            "max_retry_delay": timedelta(hours=1), "on_failure_callback": failed,
        },
        params=job_params(config, output, spark),
        tags=["shardwright"],
    )  # fmt: skip
    def pipeline() -> None:
        sensor = {"mode": "reschedule", "poke_interval": check_every, "timeout": give_up_after, "soft_fail": True}
        published = task(pool=pool)(prepare)()
        task.sensor(**sensor)(new_input)() >> published
        verified = task(pool=pool)(verify)(published)
        verified >> task(outlets=[PUBLISHED])(report)(published)

    return pipeline()


def job_params(config: str, output: str | None, spark: Sequence[str]) -> dict[str, Param]:
    """What a run may change."""
    text, no_text, words = {"type": "string", "minLength": 1}, {"type": ["null", "string"], "minLength": 1}, {"type": "array"}
    client = {"type": "string", "not": {"enum": ["cluster", "--deploy-mode=cluster"]}}
    return {
        "config": Param(config, "The dataset's configuration: below the checkout, or absolute", **text),
        "output": Param(output, "Where the dataset goes; nothing: publish.path of the configuration", **no_text),
        "settings": Param(
            [],
            "Keys that override the configuration, one a line: shard.count=8",
            **words,
            items={"type": "string", "pattern": "="},
        ),
        "new_version": Param(False, "Publish although the dataset has another configuration", type="boolean"),
        "wait_seconds": Param(600, "How long to wait for another job that holds the dataset", type="number", minimum=0),
        "spark": Param(list(spark), "What spark-submit takes, a word a line; client mode", **words, items=client),
        "principal": Param(None, "Kerberos: who the job is", **no_text),
        "keytab": Param(None, "Kerberos: path of the keytab on the worker", **no_text),
    }


def new_input() -> bool:
    """Whether there is something to do. A configuration that is wrong is for `prepare` to report: a sensor would skip."""
    code, found = submit("prepare.py", *dataset_words(), "--check", spark=["--master", "local[1]"])
    if code not in (NOTHING_NEW, WRONG_CALL):
        succeeded(code, found)
    return code != NOTHING_NEW


def prepare() -> dict[str, Any]:
    """Publish a version. A try after a failure goes on after the last finished pass of that one."""
    params = get_current_context()["params"]
    more = ["--new-version"] if params["new_version"] else []
    return succeeded(*submit("prepare.py", *dataset_words(), "--wait", str(params["wait_seconds"]), *more))


def verify(published: dict[str, Any]) -> None:
    """Compare every byte, count and statistic with what was published."""
    code, found = submit("verify.py", published["url"], "--version", published["version"])
    if code == FAILED and (problems := found.get("problems")):
        shown = "".join(f"\n  {problem}" for problem in problems[:10])
        raise AirflowFailException(f"{published['url']} {published['version']} has {len(problems)} problems: {shown}")
    succeeded(code, found)


def report(published: dict[str, Any]) -> None:
    """Tell those who wait for the dataset: DAGs whose schedule is [Asset(url)]."""
    about = {name: published[name] for name in ("url", "version", "content_id", "splits", "counts", "note")}
    log.info("%s %s: %s; samples: %s", about["url"], about["version"], about["note"], about["counts"])
    get_current_context()["outlet_events"][PUBLISHED].add(Asset(about["url"]), extra=about)


def failed(context: Context) -> None:
    """What is done when a task has failed for good. Messages to people are sent from here."""
    instance = context["task_instance"]
    log.error("%s of %s failed in try %s: %s", instance.task_id, instance.dag_id, instance.try_number, context.get("exception"))


def dataset_words() -> list[str]:
    """What tells the job the dataset."""
    params = get_current_context()["params"]
    output = ["--output", params["output"]] if params["output"] else []
    return [params["config"], *output, *(word for setting in params["settings"] for word in ("--set", setting))]


def succeeded(code: int, found: dict[str, Any]) -> dict[str, Any]:
    """What a job that has succeeded said of it; else raises what makes Airflow fail the task at once, or try again."""
    said = found.get("message", "see what it printed above")
    if code == WRONG_CALL:
        raise AirflowFailException(f"the job was called wrongly, and would be again: {said}")
    if code == HELD:
        raise AirflowException(f"another job holds the dataset; try again when it has ended: {said}")
    if code:
        raise AirflowException(f"the job ended with exit code {code}: {said}")
    if not found:
        raise AirflowFailException("expected a line of JSON at the end of what the job printed; it has to run in client mode")
    return found


def submit(job: str, *words: str, spark: Sequence[str] = ()) -> tuple[int, dict[str, Any]]:
    """Run a job, and log what it says as it says it. Its exit code, and the JSON of the last line on its standard output."""
    params = get_current_context()["params"]
    user = [word for name in ("principal", "keytab") if params[name] for word in (f"--{name}", params[name])]
    command = ["./spark-submit.sh", *params["spark"], *user, *spark, f"jobs/{job}", *words, "--json"]
    log.info("in %s: %s", HOME, " ".join(SECRET.sub(r"\1***", word) for word in command))
    with started(command) as process:
        errors = Thread(target=logged, args=(process.stderr,))
        errors.start()
        last = logged(process.stdout)
        code = process.wait()
        errors.join()
    log.info("exit code %d", code)
    with suppress(ValueError):
        return code, dict(json.loads(last))
    return code, {}


def logged(lines: IO[str]) -> str:
    """Log each line as it comes, but for trailing blanks; the last one."""
    line = ""
    for line in lines:
        log.info("%s", line.rstrip())
    return line


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends, with all that it starts, when Airflow ends the task: marked, cleared, timed out, worker stopped."""
    environment = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}  # which may hold passwords
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("Airflow ends this task, and so its job"))
    process = subprocess.Popen(  # noqa: S603 - who may trigger the DAG says what is run
        command, cwd=HOME, env=environment, start_new_session=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(PATIENCE.total_seconds())
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


dataset_dag("shardwright_mnist", config="conf/datasets/mnist.toml", output="hdfs:///data/sets/mnist")
