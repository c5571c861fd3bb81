"""High availability: the active NameNode dies or hangs under a job, an epoch and the command line; the standby takes over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardwright as sw
from shardwright.cli import main
from shardwright.order import Shuffle
from shardwright.reader.verify import verify
from shardwright.storage import open_writable
from shardwright.storage.webhdfs import WebHdfs
from tests.cluster.conftest import started
from tests.cluster.datasets import put
from tests.cluster.faulty import HOLD
from tests.cluster.ha import HaHdfs
from tests.cluster.lab import Lab, reported_lab
from tests.cluster.yarn import Yarn
from tests.datasets import DIGITS, digits, publish

SAMPLES = 6000
_TITLE = "# A standby NameNode"
_TEXT = """
HDFS as the nameservice `ns1`: two NameNodes, three JournalNodes, a ZooKeeper and two failover controllers; everything else as
above. The configuration directory names the nameservice; jobs, datasets and readers have `hdfs://ns1/…`.
A NameNode that hangs is ended by fencing, as sshfence does it, 5 s later.
"""


@pytest.fixture(scope="module")
def ha(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[HaHdfs]:
    with started(HaHdfs(tmp_path_factory.mktemp("ha")), request) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def lab(ha: HaHdfs, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    yarn = Yarn(ha)
    try:
        yarn.start()
        with reported_lab(ha, yarn, tmp_path_factory.mktemp("ha-lab"), request, _TITLE, _TEXT) as lab:
            began = time.monotonic()
            lab.submit(lab.dataset()).succeed()
            lab.seconds = time.monotonic() - began
            yield lab
    finally:
        yarn.stop()


@pytest.fixture(autouse=True)
def mended(ha: HaHdfs) -> Iterator[None]:
    ha.wait_for_both()
    yield
    ha.mend()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset on this disk."""
    folder = tmp_path_factory.mktemp("ha-reader") / "dataset"
    publish(folder, {"train": digits(SAMPLES)}, DIGITS, part_samples=500, row_group_samples=100, block_samples=20)
    return folder


def upload(root: Path, ha: HaHdfs) -> str:
    url = ha.new_folder()
    put(root, url)
    return url


@pytest.mark.parametrize("name", ["read", "write"])
@pytest.mark.parametrize("fault", ["killed", "hanging", "killed with a JournalNode and a DataNode"])
def test_a_job_goes_on(lab: Lab, ha: HaHdfs, name: str, fault: str) -> None:
    lab.release()
    storage = lab.dataset()
    if name == "read":
        lab.ask(HOLD)
    job = lab.submit(storage)
    lab.at_begin_of(name, job, storage)
    began = time.monotonic()
    if fault == "hanging":
        ha.pause_active()
    else:
        ha.kill_active()
    if fault.endswith("DataNode"):
        ha.journalnodes[0].kill()
        ha.kill_datanode(1)
    lab.go_on()
    job.succeed()
    lab.record(f"active NameNode {fault}, in the {name} pass", "the job went on with the other one", began, storage)
    lab.mend()


@pytest.mark.parametrize("how", ["kill", "pause"])
@pytest.mark.parametrize("shuffle", ["window", "global"])
def test_an_epoch_goes_on(root: Path, ha: HaHdfs, how: str, shuffle: Shuffle) -> None:
    options: Any = {"batch_size": 32, "world": sw.World(), "shuffle": shuffle}
    expected = [batch["label"].tolist() for batch in sw.open_dataset(root).loader(**options)]
    loader = sw.open_dataset(upload(root, ha)).loader(**options, memory_limit_bytes=2**20)
    found = []
    for number, batch in enumerate(loader):
        found.append(batch["label"].tolist())
        if number == 20:
            active = ha.active
            assert active is not None
            getattr(ha.namenodes[active], how)()
    assert found == expected


def test_opening_while_nobody_is_active(root: Path, ha: HaHdfs) -> None:
    """What is asked for while they change places is answered when they have."""
    url = upload(root, ha)
    ha.kill_active()
    labels = sw.open_dataset(url).take(range(10))["label"]
    assert np.array_equal(labels, sw.open_dataset(root).take(range(10))["label"])
    assert not verify(url).problems


def test_webhdfs_asks_the_one_that_is_active(ha: HaHdfs) -> None:
    folder = ha.new_folder()
    storage = open_writable(folder)
    storage.make_directory("a")
    web = WebHdfs(folder)
    assert [found["pathSuffix"] for found in listing(web)] == ["a"]
    killed = ha.kill_active()
    storage.make_directory("b")
    assert [found["pathSuffix"] for found in listing(web)] == ["a", "b"]
    killed.start()  # as the standby, which refuses to answer
    ha.wait_for_both()
    assert [found["pathSuffix"] for found in listing(WebHdfs(folder))] == ["a", "b"]


def listing(web: WebHdfs) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = web.call("GET", "LISTSTATUS", web.path)["FileStatuses"]["FileStatus"]
    return found


def test_the_command_line_while_they_change_places(root: Path, ha: HaHdfs, capsys: pytest.CaptureFixture[str]) -> None:
    url = upload(root, ha)
    killer = threading.Timer(0.5, ha.kill_active)
    killer.start()
    with pytest.raises(SystemExit) as ended:
        main(["verify", url])
    killer.join()
    assert ended.value.code == 0, capsys.readouterr()


def test_a_publish_goes_on(root: Path, ha: HaHdfs) -> None:
    """Writing of files by hdfs-native, of which none may be half there."""
    storage = open_writable(ha.new_folder())
    storage.make_directory()
    for number in range(60):
        storage.write(f"file-{number:02d}", bytes([number]) * 10_000)
        if number == 20:
            ha.kill_active()
    assert [storage.read(f"file-{number:02d}") for number in range(60)] == [bytes([n]) * 10_000 for n in range(60)]
