"""Datasets that Oozie's workflows prepare on a test cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_manifest
from shardwright.reader.verify import verify
from shardwright.storage import HdfsStorage
from tests.cluster.daemon import MARK
from tests.cluster.guard import marked
from tests.cluster.submitted import Job, on_yarn
from tests.conftest import ROOT, SAMPLES
from tests.schedulers.deployed import deploy
from tests.schedulers.oozie import Oozie
from tests.schedulers.oozie_report import Record, excerpt

DONE = "_SUCCESS"
FAILED = "_FAILED"


@dataclass
class OozieLab:
    """`given`: job.properties of this cluster. `reference`: a dataset of a job that ran without Oozie, with this `manifest`."""

    oozie: Oozie
    given: dict[str, str]
    raw: str
    reference: str
    manifest: Manifest
    records: list[Record] = field(default_factory=list)

    def properties(self, **changed: str) -> dict[str, str]:
        """Those of a workflow that prepares a dataset of its own."""
        new = self.oozie.hdfs.new_folder
        options = f"--set read.path={self.raw}"
        return {**self.given, "output": new("set"), "marks": new("marks"), "prepareOptions": options, **changed}

    def check(self, output: str, version: str = "v000001") -> int:
        """Samples that are lost in the newest version, which verifies and holds what a job without Oozie publishes."""
        found, manifest = read_manifest(HdfsStorage(output))
        assert found == version
        assert not verify(output).problems
        assert manifest.content_id == self.manifest.content_id
        return self.manifest.lineage.counts.read - manifest.lineage.counts.published

    def marks(self, folder: str) -> list[str]:
        """The marks that a workflow has left."""
        storage = HdfsStorage(folder)
        return storage.names() if storage.exists("") else []

    def said(self, job: str, node: str) -> str:
        """What the container of a workflow's shell action has logged."""
        return self.oozie.yarn.log(self.oozie.actions(job)[node]["externalId"])

    def read_pass_is_done(self, output: str) -> bool:
        """Whether a job has left the result of its first pass."""
        storage = HdfsStorage(output)
        if not storage.exists("_staging"):
            return False
        return any(storage.exists(f"_staging/{attempt}/read.json") for attempt in storage.names("_staging"))

    def kill(self, main: str) -> None:
        """Kill -9 of the one Java process of the cluster that runs this class."""
        found = marked(f"{MARK}={self.oozie.hdfs.folder}".encode())
        (victim,) = [pid for pid, command in found.items() if command.split()[0].endswith("java") and f" {main}" in command]
        os.kill(victim, signal.SIGKILL)

    def record(self, scenario: str, happened: str, seconds: float, lost: int | None, jobs: Iterable[str] = ()) -> None:
        """A line of the report, with Oozie's own logs of these jobs."""
        names = {
            self.given["app"]: "…/app",
            f"{self.oozie.hdfs.url}/user/{self.oozie.user}": "…",
            self.oozie.url: "http://oozie",
        }
        logs = [excerpt(self.oozie.job_log(job), self._killed(job), names) for job in jobs]
        self.records.append(Record(scenario, happened, seconds, lost, "\n".join(logs)))

    def _killed(self, job: str) -> list[str]:
        """The messages that a workflow was killed with."""
        actions = self.oozie.job(job).get("actions", ())
        return [action["errorMessage"] for action in actions if action.get("type") == ":KILL:"]


def make_lab(oozie: Oozie, folder: Path) -> OozieLab:
    """Raw digits on HDFS, conf/oozie deployed, and a job without Oozie, which also uploads the archives of all jobs."""
    raw = HdfsStorage(oozie.hdfs.new_folder("raw"))
    raw.make_directory()
    for path in sorted((SAMPLES / "mnist").iterdir()):
        raw.write(path.name, path.read_bytes())
    output = oozie.hdfs.new_folder("reference")
    job: list[str | Path] = [
        "jobs/prepare.py",
        ROOT / "conf/datasets/mnist.toml",
        "--set",
        f"read.path={raw.url}",
        "--output",
        output,
    ]
    Job(folder / "reference.log", [*on_yarn(), *job], oozie.hdfs.mark).succeed()
    return OozieLab(oozie, deploy(oozie, folder), raw.url, output, read_manifest(HdfsStorage(output))[1])
