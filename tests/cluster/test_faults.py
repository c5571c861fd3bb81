"""Must show: whatever fails under a job on YARN and HDFS, versions stay whole; the job, or its re-run, gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hdfs_native import Client

from shardwright.format import layout
from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_manifest
from shardwright.reader.verify import verify
from shardwright.storage import HdfsStorage
from tests.cluster.fault_report import Record, write_report
from tests.cluster.faulty import BEGUN, DIE, FOLDER, HOLD, SLOW
from tests.cluster.hdfs import Hdfs
from tests.cluster.submitted import Job, on_yarn, running_application
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

    def record(self, fault: str, happened: str, began: float, storage: HdfsStorage, version: str = "v000002") -> None:
        """A line of the table, for a fault at `began` (time.monotonic)."""
        seconds = time.monotonic() - began
        assert self.manifest is not None
        lost = self.manifest.lineage.counts.published - read_manifest(storage)[1].lineage.counts.published
        self.records.append(Record(fault, happened, seconds, lost, self.check(storage, version)))


@pytest.fixture(scope="module")
def lab(hdfs: Hdfs, yarn: Yarn, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("faults")
    failed = request.session.testsfailed
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
    yield lab
    if request.session.testsfailed == failed and request.config.getoption("keyword") == "":  # of a whole run
        write_report(lab.records, lab.seconds)


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    lab.release()
    yield
    for job in lab.jobs:
        job.kill()
    lab.go_on()
    lab.hdfs.mend()
    for application in lab.yarn.applications("RUNNING,ACCEPTED"):
        lab.yarn.kill(application)


def test_undisturbed(lab: Lab) -> None:
    """How long a job takes, and that a second run of it gives the same."""
    storage, began = lab.dataset(), time.monotonic()
    lab.submit(storage).succeed()
    lab.seconds = time.monotonic() - began
    lab.check(storage)


def test_an_executor_is_killed_in_each_pass(lab: Lab) -> None:
    storage = lab.dataset()
    lab.ask(HOLD)
    job = lab.submit(storage, on_yarn(**{"spark.executor.maxNumFailures": "20"}))
    times = {}
    for name in PASSES:
        lab.at_begin_of(name, job, storage)
        victim = next(one for one in lab.yarn.processes(running_application(lab.yarn)) if one.kind == "executor")
        os.kill(victim.pid, signal.SIGKILL)
        began = time.monotonic()
        assert not lab.passed(storage, name)()
        lab.go_on()
        job.until(partial(lab.done, storage, name), f"the result of the {name} pass")
        times[name] = time.monotonic() - began
    job.succeed()
    for name, seconds in times.items():
        happened = "YARN started another; its tasks ran again, and the job went on"
        lab.record(f"executor killed in the {name} pass", happened, time.monotonic() - seconds, storage)


def test_the_driver_is_killed_in_each_pass(lab: Lab) -> None:
    storage = lab.dataset()
    killed: float | None = None
    times: dict[str, float] = {}
    for before, name in zip([None, *PASSES], [*PASSES, None], strict=True):
        if name == "read":
            lab.ask(HOLD)
        job = lab.submit(storage)
        if before and name:
            job.until(lab.passed(storage, before), f"the result of the {before} pass")
            times[before] = time.monotonic() - (killed or 0)
        if name is None:
            job.succeed()
            times[str(before)] = time.monotonic() - (killed or 0)
            break
        lab.at_begin_of(name, job, storage)
        job.kill()
        killed = time.monotonic()
        assert not lab.passed(storage, name)()
        lab.go_on()
        left = [file for file in storage.names() if not file.startswith(layout.LOCK)]
        assert left == ["_LATEST", "_staging", "v000001"]
        assert not verify(storage.url).problems
    for name, seconds in times.items():
        happened = "the job was gone; the same command, at once, took the lock over and went on after the last finished pass"
        lab.record(f"driver killed in the {name} pass (client mode)", happened, time.monotonic() - seconds, storage)


def test_the_driver_is_killed_in_cluster_mode(lab: Lab) -> None:
    storage = lab.dataset()
    lab.ask(HOLD)
    job = lab.submit(storage, on_yarn("cluster"))
    job.until(lab.begun, "a task that reads")
    (master,) = [one for one in lab.yarn.processes(running_application(lab.yarn)) if one.kind == "master"]
    os.kill(master.pid, signal.SIGKILL)
    began = time.monotonic()
    job.fail()
    assert not verify(storage.url).problems
    lab.go_on()
    lab.submit(storage, on_yarn("cluster")).succeed()
    happened = "spark-submit.sh ended with 1; the same command published"
    lab.record("driver killed in the read pass (cluster mode)", happened, began, storage)


def test_a_datanode_dies_while_samples_are_read(lab: Lab) -> None:
    storage = lab.dataset()
    lab.ask(HOLD)
    job = lab.submit(storage)
    lab.at_begin_of("read", job, storage)
    lab.hdfs.kill_datanode(1)
    began = time.monotonic()
    lab.go_on()
    job.succeed()
    lab.record("DataNode killed while samples are read", "the job went on with the other replicas", began, storage)


def test_a_datanode_dies_while_parts_are_written(lab: Lab) -> None:
    storage = lab.dataset()
    job = lab.submit(storage)
    lab.at_begin_of("write", job, storage)
    lab.hdfs.kill_datanode(2)
    began = time.monotonic()
    lab.go_on()
    job.succeed()
    happened = "files on their way there were written again as a whole; the job went on"
    lab.record("DataNode killed while parts are written", happened, began, storage)


def test_the_namenode_is_restarted(lab: Lab) -> None:
    storage = lab.dataset()
    job = lab.submit(storage)
    job.until(lab.passed(storage, "carry"), "the result of the carry pass")
    began = time.monotonic()
    away = lab.hdfs.restart_namenode()
    job.succeed()
    lab.record("NameNode killed and started again", f"the job waited ({away:.0f} s) and went on", began, storage)


def test_a_slow_task_is_run_twice(lab: Lab) -> None:
    storage = lab.dataset()
    lab.ask(SLOW)
    eager = {"quantile": "0.5", "multiplier": "1.5", "minTaskRuntime": "1s", "interval": "200ms"}
    settings = {f"spark.speculation.{name}": value for name, value in eager.items()}
    settings |= {"spark.executor.memory": "3g"}  # so that each node holds one executor: a second attempt wants another host
    job = lab.submit(storage, on_yarn(**settings))
    job.until(lab.begun, "a task that reads")
    began = time.monotonic()
    job.succeed()  # while the slow attempt would never end
    lab.record("a task that hangs, with speculation", "a second attempt was started and won", began, storage)


def test_a_task_fails_twice(lab: Lab) -> None:
    storage = lab.dataset()
    lab.ask(DIE)
    job = lab.submit(storage)
    job.until(lab.begun, "a task that reads")
    began = time.monotonic()
    job.succeed()
    lab.record("a task whose Python dies twice", "the third attempt succeeded", began, storage)


def test_the_output_is_removed(lab: Lab) -> None:
    storage = lab.dataset()
    job = lab.submit(storage)
    lab.at_begin_of("write", job, storage)
    HdfsStorage(storage.url).delete()
    began = time.monotonic()
    lab.go_on()
    said = job.fail()
    assert "removed while" in said, said[-3000:]
    assert "Traceback" not in said, said[:3000]
    assert not storage.names()
    lab.submit(storage).succeed()
    happened = "the job ended with 1 and published nothing; the same command published all"
    lab.record("output directory removed under the job", happened, began, storage, "v000001")


def test_the_quota_is_exceeded(lab: Lab) -> None:
    storage = lab.dataset()
    job = lab.submit(storage)
    lab.at_begin_of("write", job, storage)
    path = urlsplit(storage.url).path
    lab.hdfs.request("PUT", path, "SETQUOTA", namespacequota=10_000, storagespacequota=3 * 2**20)
    began = time.monotonic()
    lab.go_on()
    said = job.fail()
    assert "quota" in said.lower(), said[-3000:]
    assert not verify(storage.url).problems
    lab.hdfs.request("PUT", path, "SETQUOTA", namespacequota=10_000, storagespacequota=2**30)
    lab.submit(storage).succeed()
    happened = "the job ended with 1 and named the quota; with a higher one the same command went on"
    lab.record("quota exceeded while parts are written", happened, began, storage)


def test_two_jobs_at_once(lab: Lab) -> None:
    storage = lab.dataset()
    lab.ask(HOLD)
    job = lab.submit(storage)
    lab.at_begin_of("read", job, storage)
    began = time.monotonic()
    said = lab.submit(storage, ["--master", "local[2]"]).fail()
    assert "another publish holds" in said, said[-3000:]
    lab.go_on()
    job.succeed()
    happened = "the second ended with 1 and named the first, which went on"
    lab.record("two jobs for one dataset at once", happened, began, storage)


def test_a_stale_lock(lab: Lab) -> None:
    storage = lab.dataset()
    owner = {"host": "gone.example.org", "boot_id": "1", "pid": 1, "start_time": "1", "id": "0"}
    storage.write(layout.LOCK, json.dumps(owner).encode())
    began = time.monotonic()
    said = lab.submit(storage, ["--master", "local[2]"]).fail()
    assert "process 1 on gone.example.org" in said, said[-3000:]
    before = int(time.time() * 1000) - 120_000  # two minutes without a beat
    Client(storage.url).set_times(f"{urlsplit(storage.url).path}/{layout.LOCK}", before, before)
    lab.submit(storage).succeed()
    happened = "the job ended with 1 while it was fresh, and took it over when it was a minute without a beat"
    lab.record("lock of a machine that is gone", happened, began, storage)
