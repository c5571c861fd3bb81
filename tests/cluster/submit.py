"""`./spark-submit.sh --master yarn` as a user runs it, on a test cluster that is small and all on the loopback interface."""

from __future__ import annotations

import os
import subprocess

from tests.conftest import ROOT

SECONDS = 600
"""A first start uploads 560 MB and makes each node unpack it."""

_SMALL = {
    "spark.driver.memory": "512m",
    "spark.driver.memoryOverhead": "512m",
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "768m",
    "spark.executor.cores": "1",
    "spark.dynamicAllocation.maxExecutors": "2",
    "spark.yarn.am.memory": "384m",
    "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1",
    "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1",
}


def command(*words: str) -> list[str]:
    """The command line, with what makes a job small."""
    properties = [word for key, value in _SMALL.items() for word in ("--conf", f"{key}={value}")]
    return ["./spark-submit.sh", "--master", "yarn", *properties, *words]


def submit(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a job to its end; the environment is that of the cluster that the fixtures started."""
    environment = {name: value for name, value in os.environ.items() if name not in ("SPARK_CONF_DIR", "PYSPARK_PYTHON")}
    return subprocess.run(
        command(*words), cwd=ROOT, env={**environment, "SPARK_LOCAL_IP": "127.0.0.1"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
