"""A dataset on HDFS, and jobs on YARN that give it a second version while something fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shardwright.format import layout
from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_manifest
from shardwright.reader.verify import verify
from shardwright.storage import HdfsStorage
from tests.cluster.fault_report import Record, write_report
from tests.cluster.faulty import BEGUN, FOLDER
from tests.cluster.hdfs import Hdfs
from tests.cluster.submitted import Job, on_yarn
from tests.cluster.yarn import Yarn
from tests.datasets import digits, publish
from tests.spark.mnist import write_digits

SAMPLES = 2000
PASSES = {"read": None, "fit": "read", "carry": "fit", "write": "carry"}
"""The passes, and the one whose result is there when they begin."""

CONFIG = """
name = "faults"
[read]
format = "idx"
path = "{path}"
task_bytes = 200_000
[[map]]
function = "faulty:disturb"
[split]
fractions = {{ train = 0.9, validation = 0.1 }}
seed = 7
[standardise]
at = "write"
fields = ["image"]
[shard]
count = 7
remainder = "carry"
part_bytes = 200_000
"""


@dataclass
class Lab:
    """A dataset with one version, which jobs give a second."""

    hdfs: Hdfs
    yarn: Yarn
    folder: Path
    config: Path
    first: Path
    records: list[Record] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    manifest: Manifest | None = None
    files: dict[str, int] = field(default_factory=dict)
    seconds: float = 0

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

    def dataset(self) -> HdfsStorage:
        """A new one, with its first version."""
        storage = HdfsStorage(self.hdfs.new_folder("faults"))
        self.put_first(storage)
        return storage

    def put_first(self, storage: HdfsStorage) -> None:
        for path in sorted(path for path in self.first.rglob("*") if path.is_file()):
            name = path.relative_to(self.first).as_posix()
            storage.make_directory(name.rpartition("/")[0])
            storage.write(name, path.read_bytes())

    def submit(self, storage: HdfsStorage, options: list[str] | None = None) -> Job:
        """The job that makes the second version."""
        log = self.folder / f"job-{time.time_ns()}.log"
        options = on_yarn() if options is None else options
        faults = [f"--conf=spark.executorEnv.{FOLDER}={self.asked}"]
        job = ["jobs/prepare.py", str(self.config), "--output", storage.url, "--new-version"]
        modules = ["--py-files", str(Path(__file__).with_name("faulty.py"))]
        self.jobs.append(Job(log, [*options, *faults, *modules, *job], {FOLDER: str(self.asked), **self.hdfs.mark}))
        return self.jobs[-1]

    def check(self, storage: HdfsStorage, version: str = "v000002") -> int:
        """What holds after each fault; the bytes of stray files in the version."""
        assert self.manifest is not None
        found_version, manifest = read_manifest(storage)
        assert found_version == version
        assert manifest.content_id == self.manifest.content_id  # so the index, which names parts by sha256, is the same too
        assert manifest.lineage.counts == self.manifest.lineage.counts
        for name in {"v000001", version} & set(storage.names()):
            assert not verify(storage.url, version=name).problems
        files = {name: size for name, size in storage.files(version).items() if name != layout.MANIFEST}
        stray = sum(size for name, size in files.items() if name not in self.files)
        assert files == self.files
        assert storage.names() == ["_LATEST", *sorted({"v000001", version})]
        return stray

    def passed(self, storage: HdfsStorage, name: str) -> Callable[[], bool]:
        """Whether a pass has left its result."""
        return lambda: any(storage.exists(f"_staging/{attempt}/{name}.json") for attempt in storage.names("_staging"))

    def done(self, storage: HdfsStorage, name: str) -> bool:
        """Whether a pass is done; its result is gone when the version is published."""
        return self.passed(storage, name)() or storage.exists(f"v000002/{layout.MANIFEST}")

    def at_begin_of(self, name: str, job: Job, storage: HdfsStorage) -> None:
        """Wait for the pass, and hold its tasks: those of reading by their own code, later ones by DataNodes that hang."""
        before = PASSES[name]
        if before is None:
            job.until(self.begun, "a task that reads")
            return
        job.until(self.passed(storage, before), f"the result of the {before} pass")
        for datanode in self.hdfs.datanodes:
            datanode.pause()
        time.sleep(2)  # for Spark to start the pass

    def go_on(self) -> None:
        self.release()
        for datanode in self.hdfs.datanodes:
            datanode.go_on()

    def mend(self) -> None:
        """End what a test left running, and bring back what it ended."""
        for job in self.jobs:
            job.kill()
        self.go_on()
        self.hdfs.mend()
        for application in self.yarn.applications("RUNNING,ACCEPTED"):
            self.yarn.kill(application)

    def record(self, fault: str, happened: str, began: float, storage: HdfsStorage, version: str = "v000002") -> None:
        """A line of the table, for a fault at `began` (time.monotonic)."""
        seconds = time.monotonic() - began
        assert self.manifest is not None
        lost = self.manifest.lineage.counts.published - read_manifest(storage)[1].lineage.counts.published
        self.records.append(Record(fault, happened, seconds, lost, self.check(storage, version)))


@contextmanager
def reported_lab(hdfs: Hdfs, yarn: Yarn, folder: Path, request: pytest.FixtureRequest, title: str, text: str) -> Iterator[Lab]:
    """A laboratory, whose records are written as a part of docs/hadoop_faults.md where a whole run has passed."""
    failed = request.session.testsfailed
    lab = _make_lab(hdfs, yarn, folder)
    yield lab
    if request.session.testsfailed == failed and request.config.getoption("keyword") == "":
        write_report(title, text, lab.records, lab.seconds)


def _make_lab(hdfs: Hdfs, yarn: Yarn, folder: Path) -> Lab:
    """One whose first job has run undisturbed: `manifest` and `files` are what every other one has to publish."""
    lab = Lab(hdfs, yarn, folder, folder / "faults.toml", folder / "first")
    lab.asked.mkdir()
    publish(lab.first, {"train": digits(80)}, shards=2)
    source = HdfsStorage(hdfs.new_folder("input"))
    source.make_directory()
    for path in write_digits(folder / "in", np.array_split(np.arange(SAMPLES), 4), "abcd").iterdir():
        source.write(path.name, path.read_bytes())
    lab.config.write_text(CONFIG.format(path=source.url))
    storage = lab.dataset()
    lab.submit(storage).succeed()  # uploads the archives, where that is not done yet
    lab.manifest = read_manifest(storage)[1]
    lab.files = {name: size for name, size in storage.files("v000002").items() if name != layout.MANIFEST}
    return lab
