"""A real Airflow: database, DAG processor, scheduler and API server, in a folder of its own, on the loopback interface."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.cluster.daemon import MARK, Daemon, Guard, wait_until
from tests.environments import make_environment
from tests.processes import free_ports

_PINS = Path(__file__).with_name("requirements") / "airflow.txt"
_OF_TESTS = ("PYTHON", "PYSPARK", "SPARK_CONF_DIR", "VIRTUAL_ENV", "AIRFLOW")
_EVERY = 0.5
"""Seconds between two questions: each costs the API server some."""

_ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


@dataclass(frozen=True)
class Task:
    """A task of a run: where it stands, how often it was tried, and when the last try ran."""

    state: str
    tries: int
    began: str
    ended: str


class Airflow:
    """`folder` is its AIRFLOW_HOME. Commands work from the beginning; `start` is for what only a scheduler does."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        (port,) = free_ports(1)
        self.folder = folder
        self.dags = folder / "dags"
        self.dags.mkdir(parents=True)
        self.logs = folder / "logs"
        self.url = f"http://127.0.0.1:{port}"
        self._bin = make_environment("airflow", _PINS).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_TESTS)}
        self.mark = {MARK: str(folder)}
        """The variable that makes a process one of this Airflow's: it ends with it at the latest."""
        self.environment = {**kept, **_settings(folder, port), **environment, **self.mark}
        self._daemons = [
            self._daemon("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            self._daemon("dag-processor"),
            self._daemon("scheduler", "--skip-serve-logs"),  # which would listen on all interfaces
        ]
        self._guard = Guard(str(folder))
        self.run("db", "migrate")

    @cached_property
    def version(self) -> str:
        return self.run("version").strip()

    def run(self, *words: str) -> str:
        """`airflow WORD…` to its end; what it printed. It takes 5 s."""
        done = subprocess.run(
            [self._bin / "airflow", *words], env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"exit code {done.returncode} of airflow {' '.join(words)}:\n{done.stdout[-6000:]}"
        return done.stdout

    @property
    def running(self) -> bool:
        return all(daemon.running for daemon in self._daemons)

    def start(self, *dags: str) -> float:
        """Start all, and wait until these DAGs are there, which it sets going; seconds."""
        for daemon in self._daemons:
            daemon.start()
        seconds = wait_until(lambda: self._known() >= set(dags), f"the DAGs {dags}", 180, self._daemons, _EVERY)
        for dag in dags:
            self.request("PATCH", f"dags/{dag}?update_mask=is_paused", {"is_paused": False})
        return seconds

    def stop(self) -> list[str]:
        """End all; the command lines of processes that were left over, for which there is no excuse."""
        for daemon in reversed(self._daemons):
            daemon.stop()
        return self._guard.close()

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """A request to the REST API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return dict(json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error} {error.read().decode()}") from None

    def trigger(self, dag: str, **params: object) -> Run:
        """Start a run with these parameters."""
        made = self.request("POST", f"dags/{dag}/dagRuns", {"logical_date": None, "conf": params})
        return Run(self, dag, made["dag_run_id"])

    def runs(self, dag: str) -> list[Run]:
        """All runs of a DAG."""
        return [Run(self, dag, one["dag_run_id"]) for one in self.request("GET", f"dags/{dag}/dagRuns")["dag_runs"]]

    def check(self) -> None:
        """Fails where a daemon has ended."""
        for daemon in self._daemons:
            daemon.check()

    def _known(self) -> set[str]:
        try:
            return {one["dag_id"] for one in self.request("GET", "dags")["dags"]}
        except OSError:  # not there yet
            return set()

    def _daemon(self, name: str, *words: str) -> Daemon:
        return Daemon(name, [self._bin / "airflow", name, *words], self.environment, self.folder / f"{name}.log")


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    airflow: Airflow
    dag: str
    id: str

    @property
    def _path(self) -> str:
        return f"dags/{self.dag}/dagRuns/{quote(self.id)}"

    @property
    def state(self) -> str:
        return str(self.airflow.request("GET", self._path)["state"])

    @property
    def tasks(self) -> dict[str, Task]:
        """By name."""
        found = self.airflow.request("GET", f"{self._path}/taskInstances")["task_instances"]
        return {one["task_id"]: Task(one["state"], one["try_number"], one["start_date"], one["end_date"]) for one in found}

    def waits(self, task: str) -> list[float]:
        """Seconds between the end of each try of a task and the begin of the next one."""
        tries = self.airflow.request("GET", f"{self._path}/taskInstances/{task}/tries")["task_instances"]
        ordered = sorted(tries, key=lambda one: one["try_number"])
        times = [(datetime.fromisoformat(one["start_date"]), datetime.fromisoformat(one["end_date"])) for one in ordered]
        return [(after[0] - before[1]).total_seconds() for before, after in pairwise(times)]

    def until(self, task: str, *states: str, seconds: float = 300) -> Task:
        """Wait for a state of a task."""

        def met() -> bool:
            self.airflow.check()
            state = self.tasks[task].state
            assert state in states or state not in _ENDED, f"{task} is {state}, expected {states}:\n{self.log(task)[-6000:]}"
            return state in states

        wait_until(met, f"{task} of {self.dag} {self.id} is {' or '.join(states)}", seconds, every=_EVERY)
        return self.tasks[task]

    def end(self, state: str = "success", seconds: float = 400) -> dict[str, Task]:
        """Wait for the end of the run; its tasks."""

        def met() -> bool:
            self.airflow.check()
            return self.state in _ENDED

        wait_until(met, f"the end of {self.dag} {self.id}", seconds, every=_EVERY)
        told = "\n".join(self.log(task) for task in self.tasks)
        assert self.state == state, f"{self.dag} {self.id} is {self.state}, expected {state}:\n{told[-6000:]}"
        return self.tasks

    def mark(self, task: str, state: str) -> None:
        """What a person does in the web interface: the task is failed, or done."""
        self.airflow.request("PATCH", f"{self._path}/taskInstances/{task}", {"new_state": state})

    def clear(self, task: str) -> None:
        """What a person does to have a task run again, even while it runs."""
        body = {"dry_run": False, "dag_run_id": self.id, "task_ids": [task], "only_failed": False}
        self.airflow.request("POST", f"dags/{self.dag}/clearTaskInstances", body)

    def delete(self) -> None:
        """It has not begun yet, and never will."""
        self.airflow.request("DELETE", self._path)

    def log(self, task: str, attempt: int | None = None) -> str:
        """What Airflow logged of a try, or of all, as lines 'level event'."""
        folder = self.airflow.logs / f"dag_id={self.dag}" / f"run_id={self.id}" / f"task_id={task}"
        files = sorted(folder.glob(f"attempt={attempt or '*'}.log"))
        return "\n".join(_line(json.loads(line)) for file in files for line in file.read_text().splitlines())


def _line(entry: dict[str, Any]) -> str:
    """A line of a log, with its exception where it has one."""
    raised = "".join(f"\n  {one['exc_type']}: {one['exc_value']}" for one in entry.get("error_detail", []))
    more = "".join(f" {name}={entry[name]}" for name in ("reason", "exit_code", "signal_name") if name in entry)
    return f"{entry['timestamp'][11:19]} {entry['level']:7} {entry['event']}{more}{raised}"


def _settings(folder: Path, port: int) -> dict[str, str]:
    """Airflow's, by environment variables: as it is set up on one machine, but quicker to notice things."""
    settings = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": folder / "dags",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "LOGGING__BASE_LOG_FOLDER": folder / "logs",
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    own = {"AIRFLOW_HOME": str(folder), "SPT_NOENV": "1"}  # else setproctitle writes over the variables by which we know ours
    return {**own, **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()}}
