"""A storage on HDFS while daemons are killed and started, or the NameNode refuses to write."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shardwright.errors import StorageError
from shardwright.storage import HdfsOptions, HdfsStorage, Lock, hdfs_errors, open_writable
from tests.cluster.hdfs import Hdfs

_MIB = 2**20


@pytest.fixture
def storage(mended: Hdfs) -> HdfsStorage:
    storage = open_writable(mended.new_folder("storage"), HdfsOptions(block_bytes=_MIB))
    storage.make_directory()
    assert isinstance(storage, HdfsStorage)
    return storage


def hosts(hdfs: Hdfs, storage: HdfsStorage, name: str) -> list[list[int]]:
    """The DataNodes that hold each block."""
    answer = hdfs.request("GET", f"{urlsplit(storage.url).path}/{name}", "GETFILEBLOCKLOCATIONS")
    return [[int(host.rpartition(".")[2]) for host in block["hosts"]] for block in answer["BlockLocations"]["BlockLocation"]]


def write(storage: HdfsStorage, name: str, data: bytes) -> None:
    with storage.new_file(name) as path:
        path.write_bytes(data)


def test_a_datanode_dies_while_a_file_is_written(mended: Hdfs, storage: HdfsStorage) -> None:
    """It is written again as a whole, and nothing else stays."""
    data = os.urandom(40 * _MIB)
    killed = threading.Event()
    killer = threading.Thread(target=_kill_once_there_are_blocks, args=(mended, storage, killed))
    killer.start()
    for _ in range(10):
        write(storage, "f", data)
        if killed.is_set():
            break
    killer.join()
    assert killed.is_set()
    assert storage.files() == {"f": len(data)}
    assert storage.read("f") == data


def _kill_once_there_are_blocks(hdfs: Hdfs, storage: HdfsStorage, killed: threading.Event) -> None:
    """While a file still has its temporary name."""
    deadline = time.monotonic() + 60
    while not killed.is_set() and time.monotonic() < deadline:
        for name in (name for name in storage.names() if name != "f"):
            with contextlib.suppress(AssertionError):  # renamed meanwhile
                blocks = hosts(hdfs, storage, name)
                if len(blocks) >= 3:
                    killed.set()
                    hdfs.kill_datanode(blocks[-1][0])
                    return
        time.sleep(0.01)


def test_the_datanodes_die_while_a_file_is_read(mended: Hdfs, storage: HdfsStorage) -> None:
    """All that hold a block: it is read when one is back, by a reader that asks for locations anew."""
    data = os.urandom(2 * _MIB)
    write(storage, "f", data)
    assert storage.ranges("f", [(0, 10)]) == [data[:10]]
    for n in (1, 2, 3):
        mended.kill_datanode(n)
    later = threading.Timer(3, _start_datanodes, args=(mended,))
    later.start()
    assert storage.ranges("f", [(5, 9), (_MIB, 2 * _MIB)]) == [data[5:9], data[_MIB:]]
    later.join()


def _start_datanodes(hdfs: Hdfs) -> None:
    for daemon in hdfs.datanodes:
        daemon.start()


def test_nothing_holds_the_block(mended: Hdfs, storage: HdfsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs_errors, "_FIRST_PAUSE", 0.01)
    write(storage, "f", os.urandom(_MIB))
    assert len(storage.ranges("f", [(0, 10)])[0]) == 10
    for n in (1, 2, 3):
        mended.kill_datanode(n)
    with pytest.raises(
        StorageError, match=f"can't read bytes 5 to 9 of {storage.url}/f: none of the DataNodes that hold this block gave it"
    ):
        storage.ranges("f", [(5, 9)])


def test_the_namenode_is_restarted(mended: Hdfs, storage: HdfsStorage) -> None:
    """Its start and its safe mode are waited for, and the lock is still held."""
    write(storage, "f", os.urandom(_MIB))
    with Lock(storage) as lock:
        mended.namenode.kill()
        later = threading.Timer(2, mended.namenode.start)
        later.start()
        storage.write("g", b"x")
        storage.rename("g", "h")
        storage.make_directory("d")
        lock.check()
        later.join()
    assert storage.files().keys() == {"f", "h"}


@pytest.mark.parametrize("what", ["write", "new_file", "make_directory", "rename", "delete"])
def test_safe_mode_by_hand(mended: Hdfs, storage: HdfsStorage, what: str) -> None:
    """An administrator's is not waited for."""
    storage.write("f", b"x")
    acts: dict[str, Any] = {
        "write": lambda: storage.write("g", b""), "new_file": lambda: write(storage, "g", b"x"),
        "make_directory": lambda: storage.make_directory("g"), "rename": lambda: storage.rename("f", "g"),
        "delete": lambda: storage.delete("f"),
    }  # fmt: skip
    mended.admin("-safemode", "enter")
    try:
        begun = time.monotonic()
        with pytest.raises(StorageError, match=r"the NameNode is in safe mode.*turned on manually.*an administrator ends it"):
            acts[what]()
        assert time.monotonic() - begun < 10
        assert storage.read("f") == b"x"
    finally:
        mended.admin("-safemode", "leave")
    assert storage.names() == ["f"]


def test_the_directory_goes_while_a_file_is_written(mended: Hdfs, storage: HdfsStorage) -> None:
    """It does not come back."""
    storage.make_directory("d")

    def write_into_it(path: Path) -> None:
        path.write_bytes(b"x")
        storage.delete("d")

    with pytest.raises(FileNotFoundError, match=f"{storage.url}/d/f"), storage.new_file("d/f") as path:
        write_into_it(path)
    assert storage.names() == []
