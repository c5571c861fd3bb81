"""Jobs that are started as a user starts them, by ./spark-submit.sh."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyspark

from tests.cluster.daemon import wait_until
from tests.cluster.yarn import Yarn
from tests.conftest import ROOT

_LOOPBACK = {  # a machine's name may not be one that it answers to
    "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1",
    "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1",
}
_SMALL = {
    "spark.yarn.jars": f"local:{Path(pyspark.__path__[0])}/jars/*",  # on this machine containers need no copy
    "spark.dynamicAllocation.enabled": "false",
    "spark.executor.instances": "2",
    "spark.executor.cores": "1",
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "768m",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # half of a short job is compiling
    "spark.yarn.am.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.driver.memory": "768m",
    "spark.driver.memoryOverhead": "512m",
    "spark.yarn.am.memory": "384m",
    "spark.eventLog.enabled": "false",
    "spark.ui.enabled": "false",
    "spark.locality.wait": "0s",
}
"""What a job on one small machine needs, over conf/spark/yarn.conf."""

_OF_TESTS = ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR", "PYTHONPATH")


class Job:
    """A running ./spark-submit.sh; what it says is in `log`."""

    def __init__(self, log: Path, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [ROOT / "spark-submit.sh", *arguments], cwd=ROOT, env=_environment(environment or {}), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = 600) -> int:
        """Its exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not done after {seconds} s:\n{self.text[-6000:]}") from None

    def kill(self) -> None:
        """Kill -9 of it and of what it started on this machine: in client mode the driver."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def succeed(self) -> str:
        """What it said, when it has ended well."""
        code = self.wait()
        assert code == 0, f"exit code {code}:\n{self.text[-6000:]}"
        return self.text

    def fail(self, code: int = 1) -> str:
        """What it said, when it has ended with an error."""
        assert self.wait() == code, self.text[-6000:]
        return self.text

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 400) -> float:
        """`wait_until` while it runs."""

        def met() -> bool:
            found = condition()
            assert found or self.running, f"it ended before this: {what}\n{self.text[-6000:]}"
            return found

        return wait_until(met, what, seconds)


def submit(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a job on YARN to its end, with all that conf/spark/yarn.conf says. A first start uploads 560 MB."""
    return subprocess.run(
        [ROOT / "spark-submit.sh", "--master", "yarn", *_confs(_LOOPBACK), *words], cwd=ROOT, env=_environment({}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def on_yarn(mode: str = "client", **settings: str) -> list[str]:
    """Options for a small job on YARN."""
    return ["--master", "yarn", "--deploy-mode", mode, *_confs({**_LOOPBACK, **_SMALL, **settings})]


def _confs(settings: Mapping[str, str]) -> list[str]:
    return [f"--conf={name}={value}" for name, value in settings.items()]


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """That of a user: without what the tests' own Spark and Python need."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_TESTS}
    return {**kept, "SPARK_LOCAL_IP": "127.0.0.1", **added}


def running_application(yarn: Yarn) -> str:
    """The id of the one application that runs."""
    (found,) = yarn.applications("RUNNING")
    return found
