"""Must show: whatever fails under a job on YARN and HDFS, versions stay whole; the job, or its re-run, gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest
from hdfs_native import Client

from shardwright.format import layout
from shardwright.reader.verify import verify
from shardwright.storage import HdfsStorage
from tests.cluster.faulty import DIE, HOLD, SLOW
from tests.cluster.hdfs import Hdfs
from tests.cluster.lab import PASSES, Lab, reported_lab
from tests.cluster.submitted import on_yarn, running_application
from tests.cluster.yarn import Yarn

_TITLE = "# Faults on Hadoop"
_TEXT = """
A NameNode, three DataNodes (replication 2; one counts as dead after 12 s), a ResourceManager and two NodeManagers. A prepare
job on YARN with two executors reads 2,000 digits from HDFS and gives a dataset on HDFS its second version.

Checked each time: both versions verify; the second has the content of an undisturbed run's, so every part has the same
sha256; no file is there that manifest and index do not name. Seconds are from the fault until the pass that it met was done,
or until the version stood where the job had to be started again.
"""


@pytest.fixture(scope="module")
def lab(hdfs: Hdfs, yarn: Yarn, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with reported_lab(hdfs, yarn, tmp_path_factory.mktemp("faults"), request, _TITLE, _TEXT) as lab:
        yield lab


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    lab.release()
    yield
    lab.mend()


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
    said = lab.submit(storage, ["--master", "local[2]"]).fail(3)
    assert "another publish holds" in said, said[-3000:]
    lab.go_on()
    job.succeed()
    happened = "the second ended with 3 and named the first, which went on"
    lab.record("two jobs for one dataset at once", happened, began, storage)


def test_a_stale_lock(lab: Lab) -> None:
    storage = lab.dataset()
    owner = {"host": "gone.example.org", "boot_id": "1", "pid": 1, "start_time": "1", "id": "0"}
    storage.write(layout.LOCK, json.dumps(owner).encode())
    began = time.monotonic()
    said = lab.submit(storage, ["--master", "local[2]"]).fail(3)
    assert "process 1 on gone.example.org" in said, said[-3000:]
    before = int(time.time() * 1000) - 120_000  # two minutes without a beat
    Client(storage.url).set_times(f"{urlsplit(storage.url).path}/{layout.LOCK}", before, before)
    lab.submit(storage).succeed()
    happened = "the job ended with 3 while it was fresh, and took it over when it was a minute without a beat"
    lab.record("lock of a machine that is gone", happened, began, storage)
