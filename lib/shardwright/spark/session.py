"""The Spark session, and errors from executors as the errors they were."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from shardwright import errors

BATCH_BYTES = 8 * 2**20
"""Index rows cross between Spark and Python in batches of at most this size."""


def open_session(name: str) -> SparkSession:
    """The session of this job: what `spark-submit` configured, or local[*]."""
    session = SparkSession.getActiveSession() or SparkSession.builder.appName(f"shardwright {name}").getOrCreate()
    for key, value in {
        "spark.sql.execution.arrow.maxRecordsPerBatch": "100000",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(BATCH_BYTES),
        "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "true",
        "spark.sql.adaptive.enabled": "false",  # part numbers are partitions: nothing may merge or split them
        "spark.sql.shuffle.partitions": str(max(2, task_slots(session))),
    }.items():
        session.conf.set(key, value)
    return session


def task_slots(session: SparkSession) -> int:
    """Tasks that can run at once; where executors come as they are needed, when all of them are there."""
    conf = session.sparkContext.getConf()
    most = conf.get("spark.dynamicAllocation.maxExecutors")
    if most is not None and conf.get("spark.dynamicAllocation.enabled") == "true":
        return int(most) * int(conf.get("spark.executor.cores") or 1)
    return session.sparkContext.defaultParallelism


_GONE = re.compile(r"^FileNotFoundError: (.+)", re.MULTILINE)
_DIED = re.compile(r"Python worker exited unexpectedly|Python worker .*crash", re.IGNORECASE)


@contextmanager
def executor_errors(functions: Sequence[str] = ()) -> Iterator[None]:
    """Raise the shardwright error that a task raised, in place of Spark's wrapping of it.

    Raises WorkerDiedError where a worker's process is gone, with `functions`, code of the team's own that it ran, and
    StorageError where a task's file is gone.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if _DIED.search(str(error)):
            suspects = f"; it ran your own {', '.join(functions)}: does that exit, or call native code?" if functions else ""
            raise errors.WorkerDiedError(
                "a Python worker of Spark died: it ended itself, crashed in native code, or was killed for its memory"
                f"{suspects} (its last words are in Spark's log); nothing was published"
            ) from error
        found = re.search(r"^shardwright\.errors\.(\w+): (.*?)(?=\s*\n *SQLSTATE|\n\s*at |\n\n|\Z)", str(error), re.M | re.S)
        kind = getattr(errors, found.group(1), None) if found else None
        if found is None and (gone := _GONE.search(str(error))):
            raise errors.StorageError(
                f"a task did not find a file ({gone.group(1).strip()}): was it, or the directory that this job works in, "
                "removed while it ran? nothing was published; run the same command again"
            ) from error
        if found is None or not (isinstance(kind, type) and issubclass(kind, errors.ShardwrightError)):
            raise
        told = found.group(2).strip()
        raise (errors.ConfigError([told.partition("\n")[2].strip()]) if kind is errors.ConfigError else kind(told)) from error
