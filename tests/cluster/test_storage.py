"""A storage on real HDFS: the contract, what a publisher may ask HDFS for, and what it says when HDFS refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shardwright.errors import CorruptError, LockedError, StorageError
from shardwright.storage import HdfsOptions, HdfsStorage, Lock, open_storage, open_writable
from shardwright.storage import lock as lock_module
from tests.cluster.daemon import wait_until
from tests.cluster.hdfs import SUPERUSER, USER, Hdfs
from tests.storage_contract import StorageContract

_MIB = 2**20


@pytest.fixture
def storage(hdfs: Hdfs) -> HdfsStorage:
    return published(hdfs)


def published(hdfs: Hdfs, **options: Any) -> HdfsStorage:
    """An empty directory of its own."""
    storage = open_writable(hdfs.new_folder("storage"), HdfsOptions(**options))
    storage.make_directory()
    assert isinstance(storage, HdfsStorage)
    return storage


def path_of(storage: HdfsStorage, name: str = "") -> str:
    """What the NameNode calls it."""
    return f"{urlsplit(storage.url).path}/{name}".rstrip("/")


def status(hdfs: Hdfs, storage: HdfsStorage, name: str = "") -> dict[str, Any]:
    """What the NameNode says of a file or directory: permission, owner, group, replication, blockSize, …"""
    return dict(hdfs.request("GET", path_of(storage, name), "GETFILESTATUS")["FileStatus"])


class TestContract(StorageContract):
    """HDFS keeps the contract."""


@pytest.mark.parametrize("form", ["hdfs://{server}", "hdfs://", "hdfs://{server}/"])
def test_forms_of_a_url(hdfs: Hdfs, storage: HdfsStorage, form: str) -> None:
    storage.write("f", b"x")
    base = form.format(server=urlsplit(hdfs.url).netloc)
    assert open_storage(f"{base}{path_of(storage)}/").read("f") == b"x"
    assert "user" in open_storage(base if base != "hdfs://" else "hdfs:///").names()


def test_a_body_that_fails_leaves_nothing(storage: HdfsStorage) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-input"), storage.new_file("f") as path:
        path.write_bytes(b"half" + Path("no-such-input").read_bytes())
    assert storage.files() == {}


def test_permissions_and_group(hdfs: Hdfs) -> None:
    storage = published(hdfs, umask="027", group="data")
    storage.make_directory("d")
    storage.write("d/f", b"x")
    with storage.child("d").new_file("g") as path:
        path.write_bytes(b"x")
    found = [status(hdfs, storage, name) for name in ("", "d", "d/f", "d/g")]
    assert [one["permission"] for one in found] == ["750", "750", "640", "640"]
    assert {one["group"] for one in found} == {"data"}
    plain = published(hdfs)
    plain.write("f", b"x")
    assert [status(hdfs, plain, name)["permission"] for name in ("", "f")] == ["755", "644"]
    with pytest.raises(
        StorageError, match=r"no permission to give to group wheel hdfs://.*: User shardwright does not belong to"
    ):
        published(hdfs, group="wheel")


def test_a_part_lies_in_one_block(hdfs: Hdfs) -> None:
    storage = published(hdfs, block_bytes="part", replication=1)
    with storage.new_file("part") as path:
        path.write_bytes(bytes(5 * _MIB + 1))
    found = status(hdfs, storage, "part")
    assert (found["blockSize"], found["replication"], found["length"]) == (6 * _MIB, 1, 5 * _MIB + 1)
    answer = hdfs.request("GET", path_of(storage, "part"), "GETFILEBLOCKLOCATIONS")
    assert len(answer["BlockLocations"]["BlockLocation"]) == 1


def reported(hdfs: Hdfs, path: str) -> bool:
    """Whether the DataNodes have reported all three units of each block: hdfs-native takes those of XOR for lost before."""
    found = hdfs.request("GET", path, "GETFILEBLOCKLOCATIONS")["BlockLocations"]["BlockLocation"]
    return all(len(block["hosts"]) == 3 for block in found)


def test_policies(hdfs: Hdfs) -> None:
    storage = published(hdfs, storage_policy="WARM")
    assert hdfs.request("GET", path_of(storage), "GETSTORAGEPOLICY")["BlockStoragePolicy"]["name"] == "WARM"
    hdfs.admin_ec("-enablePolicy", "-policy", "XOR-2-1-1024k")
    coded = published(hdfs, erasure_coding="XOR-2-1-1024k")
    data = os.urandom(3 * _MIB + 17)
    coded.make_directory("d")
    with coded.child("d").new_file("f") as path:
        path.write_bytes(data)
    wait_until(lambda: reported(hdfs, path_of(coded, "d/f")), "all units' reports")
    assert coded.read("d/f") == data
    assert hdfs.request("GET", path_of(coded, "d/f"), "GETECPOLICY")["name"] == "XOR-2-1-1024k"
    coded.make_directory()  # a second publish
    with pytest.raises(
        StorageError, match=r"storage-\d+: .*Policy 'NONE-SUCH' does not match any enabled erasure coding policies"
    ):
        published(hdfs, erasure_coding="NONE-SUCH")


def test_removing(hdfs: Hdfs, storage: HdfsStorage) -> None:
    """What was published goes to the trash, which the harness switches on; what is staged does not."""
    storage.make_directory("v1")
    storage.write("v1/f", b"x")
    where = storage.discard("v1")
    assert where is not None
    assert where.startswith(f"{hdfs.url}/user/{USER}/.Trash/Current/")
    assert open_storage(where).read("f") == b"x"
    storage.write("g", b"")
    storage.delete("g")
    assert not open_storage(f"{hdfs.url}/user/{USER}/.Trash/Current{path_of(storage)}").names().count("g")


@pytest.fixture
def private(hdfs: Hdfs) -> Iterator[str]:
    """The path of a directory of the superuser's."""
    path = "/private"
    hdfs.request("PUT", path, "MKDIRS", permission="700")
    yield path
    hdfs.request("DELETE", path, "DELETE", recursive="true")


def test_no_permission(hdfs: Hdfs, private: str) -> None:
    storage = open_writable(f"{hdfs.url}{private}")
    lacks = rf"user {USER} lacks \w+ on {private} \(owner and group {SUPERUSER}:supergroup, drwx------\); ask its owner"
    for act, doing in (
        (lambda: storage.write("f", b""), "write"), (storage.names, "list"), (lambda: storage.create("f", b""), "write"),
        (lambda: storage.make_directory("d"), "create the directory"), (lambda: storage.exists("f"), "look at"),
    ):  # fmt: skip
        with pytest.raises(StorageError, match=f"no permission to {doing} {storage.url}(/.)?: {lacks}") as raised:
            act()
        assert "\tat " not in str(raised.value)
    with pytest.raises(StorageError, match="no permission to remove"):
        open_writable(hdfs.url).delete(private[1:])


def test_quotas(hdfs: Hdfs, storage: HdfsStorage) -> None:
    path = path_of(storage)
    hdfs.request("PUT", path, "SETQUOTA", namespacequota=3)
    storage.write("a", b"")
    storage.write("b", b"")
    for write in (lambda: storage.write("c", b""), lambda: storage.make_directory("c")):
        with pytest.raises(
            StorageError, match=f"{storage.url}/c: {path} may hold 3 files and directories, and would hold 4; see"
        ):
            write()
    hdfs.request("PUT", path, "SETQUOTA", namespacequota=100, storagespacequota=5 * _MIB)
    with (
        pytest.raises(
            StorageError, match=f"can't write {storage.url}/c: {path} may take 5 MB, and would take 6.* MB, copies counted"
        ),
        storage.new_file("c") as local,
    ):
        local.write_bytes(bytes(3 * _MIB))
    assert storage.files() == {"a": 0, "b": 0}


def test_the_port_of_another_service(hdfs: Hdfs) -> None:
    begun = time.monotonic()
    with pytest.raises(
        StorageError, match=r"can't reach hdfs://.*: nothing that speaks HDFS answers there .*WebHDFS's is another"
    ):
        open_storage(f"hdfs://{urlsplit(hdfs.http).netloc}/x").read("f")
    assert time.monotonic() - begun < 30


def test_the_name_nodes_clock(hdfs: Hdfs, storage: HdfsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is two hours slow neither takes a live lock away nor lets its own look stale."""
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 7200)
    storage.write("f", b"")
    assert -5 < storage.age("f") < 30
    storage.touch("f")
    assert abs(status(hdfs, storage, "f")["modificationTime"] / 1000 - true()) < 30


def test_webhdfs(hdfs: Hdfs, storage: HdfsStorage, private: str) -> None:
    data = os.urandom(2 * _MIB + 5)
    storage.write("f", data)
    web = open_storage(f"{hdfs.webhdfs}{path_of(storage)}")
    assert (web.names(), web.size("f"), web.read("f") == data) == (["f"], len(data), True)
    assert web.ranges("f", [(5, 9), (_MIB, 2 * _MIB)]) == [data[5:9], data[_MIB : 2 * _MIB]]
    with web.open("f") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == data[-3:]
    with pytest.raises(CorruptError, match=r"f: expected bytes 0 to .*, the file ends before that"):
        web.ranges("f", [(0, len(data) + 1)])
    with pytest.raises(FileNotFoundError):
        web.read("nothing")
    with pytest.raises(
        StorageError, match=f"can't read {hdfs.webhdfs}{private}/f: Permission denied: user={USER}, access=EXECUTE"
    ):
        open_storage(f"{hdfs.webhdfs}{private}").read("f")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_others_read(storage: HdfsStorage) -> None:
    """hdfs-native's connections of the parent would hang in the child, and the other way round."""
    data = os.urandom(_MIB)
    storage.write("f", data)
    done, read = threading.Event(), 0

    def keep_reading() -> None:
        nonlocal read
        while not done.is_set():
            assert storage.ranges("f", [(5, 10), (500_000, 600_000)])[1] == data[500_000:600_000]
            read += 1

    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(keep_reading) for _ in range(2)]
        children = [_forked(lambda: storage.read("f") == data) for _ in range(2)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        before = read
        wait_until(lambda: read > before + 20, "the parent's reads going on", 30)
        done.set()
        for thread in threads:
            thread.result()
    assert codes == [0, 0]


def _forked(check: Callable[[], bool]) -> int:
    """A child that ends with 0 where `check` holds, and is killed after 30 s."""
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(0 if check() else 1)
    return child


_HOLD = """
import sys
from shardwright.errors import LockedError
from shardwright.storage import Lock, open_writable
storage = open_writable(sys.argv[1])
storage.names()
print("ready", flush=True)
input()
try:
    with Lock(storage) as lock:
        lock.check()
        print("won", flush=True)
        input()
        lock.check()
except LockedError as error:
    print(error, flush=True)
    input()
"""


@pytest.fixture
def rivals(storage: HdfsStorage) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that reach for the lock of `storage` as soon as they read a line, and let go at the next."""
    command = [sys.executable, "-c", _HOLD, storage.url]
    found = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    yield found
    for process in found:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("stale", [False, True])
def test_one_of_several_processes_gets_the_lock(storage: HdfsStorage, rivals: list[subprocess.Popen[str]], stale: bool) -> None:
    assert [hear(process) for process in rivals] == ["ready"] * 4
    if stale:
        storage.write("_LOCK", b'{"host": "%s", "pid": 4, "boot_id": "before"}' % os.uname().nodename.encode())
    for process in rivals:
        tell(process)
    said = [hear(process) for process in rivals]
    assert said.count("won") == 1, said
    assert all("another publish holds" in one for one in said if one != "won")
    for process in rivals:
        tell(process)
    assert [process.wait(30) for process in rivals] == [0] * 4
    assert storage.names() == []


def test_a_lock_of_another_host(storage: HdfsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds for a minute without a beat, by the NameNode's clock."""
    storage.write("_LOCK", b'{"host": "elsewhere", "pid": 7, "boot_id": "x", "id": "y"}')
    with pytest.raises(LockedError, match="process 7 on elsewhere"), Lock(storage):
        pass
    client = storage._connection.client
    written = client.get_file_info(path_of(storage, "_LOCK")).modification_time
    past = written - 1000 * int(lock_module.STALE_SECONDS + 5)
    client.set_times(path_of(storage, "_LOCK"), past, past)
    monkeypatch.setattr(lock_module, "WATCH_SECONDS", 1)
    with Lock(storage) as lock:
        lock.check()
    assert storage.names() == []


def test_a_lock_beats(storage: HdfsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.05)
    with Lock(storage):
        storage._connection.client.set_times(path_of(storage, "_LOCK"), 1, 1)
        wait_until(lambda: storage.age("_LOCK") < 30, "a beat", 20)


def test_scratch_space_is_where_the_container_is(storage: HdfsStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTAINER_ID", "container_1_0001_01_000001")
    with storage.new_file("f") as path:
        assert path.is_relative_to(tmp_path)
        path.write_bytes(b"x")
    assert (storage.read("f"), list(tmp_path.iterdir())) == (b"x", [])
