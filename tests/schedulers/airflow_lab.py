"""An Airflow with the DAG of conf/airflow for datasets of handwritten digits, and secrets planted to be kept out of logs."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shardwright import open_dataset
from shardwright.format.versions import read_latest
from shardwright.reader.verify import verify
from shardwright.storage import open_writable
from tests.cluster.daemon import MARK
from tests.cluster.faulty import BEGUN, FOLDER
from tests.cluster.guard import marked
from tests.conftest import ROOT
from tests.schedulers.airflow import Airflow, Run
from tests.schedulers.airflow_report import Record, excerpt
from tests.spark.mnist import digits, write_digits

DAG = ROOT / "conf/airflow/shardwright_prepare.py"
POOL = "shardwright"
RETRY_SECONDS = 3
PASSWORD = "a password among Spark's settings"
SAMPLES, LATER = 1600, 400
"""Digits of the input, and those that come later."""

FAULTY = ROOT / "tests/cluster/faulty.py"
LOCAL = ["--master", "local[2]", "--py-files", str(FAULTY)]

CONFIG = """
name = "digits"
[read]
format = "idx"
path = "{path}"
task_bytes = 200_000
[[map]]
function = "faulty:disturb"
[split]
fractions = {{ train = 0.9, validation = 0.1 }}
seed = 7
[shard]
count = 3
remainder = "spread"
part_bytes = 200_000
"""

_CALLS = """
from datetime import timedelta as _time
_same = {{"config": "{config}", "spark": {spark}, "schedule": None, "retries": 3, "retry_delay": _time(seconds={seconds})}}
dataset_dag("patient", check_every=_time(seconds=2), give_up_after=_time(minutes=5), **_same)
dataset_dag("impatient", check_every=_time(seconds=2), give_up_after=_time(seconds=1), **_same)
"""
"""What an operator adds for two datasets."""

_CONSUMER = """
from airflow.sdk import Asset, dag, task
DATASET = Asset("{url}")
@dag(schedule=[DATASET])
def trainer():
    @task
    def train(triggering_asset_events):
        newest = max(triggering_asset_events[DATASET], key=lambda event: event.timestamp).extra
        print("train on", newest["url"], newest["version"])
    train()
trainer()
"""


@dataclass
class Lab:
    """One Airflow, an input of digits, and outputs."""

    airflow: Airflow
    folder: Path
    planted: dict[str, str]
    records: list[Record] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.folder / "in"

    @property
    def keytab(self) -> Path:
        return self.folder / "planted.keytab"

    @property
    def asked(self) -> Path:
        return self.folder / "asked"

    def ask(self, what: str) -> None:
        (self.asked / what).touch()

    def release(self) -> None:
        for path in self.asked.iterdir():
            path.unlink()

    def begun(self) -> bool:
        return (self.asked / BEGUN).exists()

    def output(self, name: str) -> Path:
        return self.folder / "out" / name

    def trigger(self, dag: str, output: Path, **params: object) -> Run:
        """A run for this output."""
        return self.airflow.trigger(dag, output=str(output), **params)

    def latest(self, output: Path) -> str | None:
        """The newest version."""
        return read_latest(open_writable(str(output)))

    def passed(self, output: Path, name: str) -> bool:
        """Whether a pass has left its result."""
        return any(output.glob(f"_staging/*/{name}.json"))

    def jobs(self) -> dict[int, str]:
        """Processes of jobs, of whatever task: pid to command line. They have none of Airflow's variables."""
        ours = marked(f"{MARK}={self.airflow.folder}".encode())
        airflows = marked(f"AIRFLOW_HOME={self.airflow.folder}".encode())
        return {pid: command for pid, command in ours.items() if pid not in airflows}

    def driver(self) -> int:
        """The process id of the one job's JVM."""
        (found,) = [pid for pid, command in self.jobs().items() if "org.apache.spark.deploy.SparkSubmit" in command]
        return found

    def record(self, scenario: str, happened: str, began: float, url: str | None, *log: str, samples: int = SAMPLES) -> None:
        """A line of the table for what `began` (time.monotonic), and what Airflow logged."""
        lost = None if url is None else lost_samples(url, samples)
        assert not lost
        text = "\n".join(excerpt(one, {str(self.folder): "…", str(ROOT): "/opt/shardwright"}) for one in log)
        self.records.append(Record(scenario, happened, time.monotonic() - began, lost, text))


def lost_samples(url: str, samples: int = SAMPLES) -> int:
    """How many of the first digits the newest version lacks; fails where it does not verify, or holds others."""
    assert not verify(url).problems
    splits = [open_dataset(url, split=split) for split in ("train", "validation")]
    found = np.concatenate([dataset.take(range(len(dataset)))["label"] for dataset in splits])
    wanted = digits()[1][:samples]
    assert len(found) <= len(wanted)
    assert not (np.bincount(found, minlength=10) > np.bincount(wanted, minlength=10)).any()
    return len(wanted) - len(found)


def make_lab(folder: Path, environment: Mapping[str, str], source: str | None = None) -> Lab:
    """Airflow with its database, the pool and the DAGs; not started. `source` is another input than its folder of digits."""
    planted = {name: secrets.token_hex(12) for name in (PASSWORD, "a connection's password", "a keytab", "a token")}
    _, password, keytab, token = planted.values()
    lab = Lab(Airflow(folder / "airflow", {**_variables(folder, password), **environment}), folder, planted)
    lab.asked.mkdir()
    lab.keytab.write_text(keytab)
    _write_tokens(folder / "tokens", token)
    write_digits(lab.source, np.array_split(np.arange(SAMPLES), 4), "abcd")
    config = folder / "digits.toml"
    config.write_text(CONFIG.format(path=source or lab.source))
    text, home = re.subn(r'^HOME = ".*"$', f'HOME = "{ROOT}"', DAG.read_text(), flags=re.M)
    assert home == 1
    (lab.airflow.dags / DAG.name).write_text(text + _CALLS.format(config=config, spark=LOCAL, seconds=RETRY_SECONDS))
    (lab.airflow.dags / "trainer.py").write_text(_CONSUMER.format(url=lab.output("asset")))
    (lab.airflow.dags / "broken.py").write_text("from airflow.sdk import dag\nraise ValueError('this file is no DAG')\n")
    lab.airflow.run("pools", "set", POOL, "1", "jobs of shardwright")
    return lab


def _variables(folder: Path, password: str) -> dict[str, str]:
    connection = f'{{"conn_type": "spark", "host": "yarn", "login": "ada", "password": "{password}"}}'
    return {
        FOLDER: str(folder / "asked"),
        "AIRFLOW_CONN_SPARK_CLUSTER": connection,
        "HADOOP_TOKEN_FILE_LOCATION": str(folder / "tokens"),
    }


def _write_tokens(path: Path, secret: str) -> None:
    """A file of Hadoop credentials with one secret key, as org.apache.hadoop.security.Credentials reads them."""
    alias, key = b"planted", secret.encode()
    path.write_bytes(b"HDTS\0" + b"\0" + b"\1" + bytes([len(alias)]) + alias + bytes([len(key)]) + key)
