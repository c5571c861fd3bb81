"""What hdfs-native does when daemons fail: why the product writes a file again as a whole, opens it anew, and waits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hdfs_native import Client, WriteOptions

from tests.cluster.conftest import started
from tests.cluster.daemon import wait_until
from tests.cluster.hdfs import Hdfs
from tests.cluster.test_ground import noise, put

MiB = 2**20


@pytest.fixture
def client(mended: Hdfs) -> Client:
    return Client(mended.url)


@pytest.fixture
def folder(mended: Hdfs, client: Client) -> str:
    path = urlsplit(mended.new_folder("ground")).path
    client.mkdirs(path, 0o755, True)
    return path


def replicas(hdfs: Hdfs, path: str) -> list[list[int]]:
    """The DataNodes that hold each block."""
    found = hdfs.request("GET", path, "GETFILEBLOCKLOCATIONS")["BlockLocations"]["BlockLocation"]
    return [[int(host.rpartition(".")[2]) for host in block["hosts"]] for block in found]


def block_files(hdfs: Hdfs, data: bytes) -> list[Path]:
    """The replicas of a block of that content."""
    files = [path for n in (1, 2, 3) for path in hdfs.data(n).glob("current/BP-*/current/finalized/**/blk_*")]
    return [path for path in files if path.stat().st_size == len(data) and path.read_bytes() == data]


def test_a_reader_goes_on_when_a_datanode_dies(mended: Hdfs, client: Client, folder: str) -> None:
    data = noise(8 * MiB)
    put(client, f"{folder}/x", data)
    reader, found = client.read(f"{folder}/x"), []
    for number in range(8):
        if number == 2:
            mended.kill_datanode(1)
        found.append(bytes(reader.read_range(number * MiB, MiB)))
    assert b"".join(found) == data


def test_a_reader_knows_the_replicas_of_its_opening_only(mended: Hdfs, client: Client, folder: str) -> None:
    data = noise(MiB // 2)
    put(client, f"{folder}/x", data)
    wait_until(lambda: len(replicas(mended, f"{folder}/x")[0]) == 2, "both replicas' reports")
    reader = client.read(f"{folder}/x")
    (first,) = replicas(mended, f"{folder}/x")
    mended.kill_datanode(first[0])
    wait_until(lambda: len(set(replicas(mended, f"{folder}/x")[0]) - set(first)) == 1, "a new replica")
    mended.kill_datanode(first[1])
    with pytest.raises(RuntimeError, match="All DataNodes failed"):
        reader.read_range(0, len(data))
    assert client.read(f"{folder}/x").read() == data  # so: after an error, open again


def kill_while_writing(hdfs: Hdfs, client: Client, path: str, data: bytes, block_size: int) -> None:
    with client.create(path, WriteOptions(block_size=block_size)) as file:
        for start in range(0, len(data), MiB):
            file.write(data[start : start + MiB])
            if start == len(data) // 2:
                hdfs.kill_datanode(replicas(hdfs, path)[-1][0])


def test_a_block_being_written_survives_its_datanode(mended: Hdfs, client: Client, folder: str) -> None:
    data = noise(8 * MiB)
    kill_while_writing(mended, client, f"{folder}/x", data, 64 * MiB)
    assert client.read(f"{folder}/x").read() == data


def test_a_file_of_several_blocks_does_not(mended: Hdfs, client: Client, folder: str) -> None:
    """The NameNode places its next block on the DataNode that has just died."""
    data = noise(24 * MiB)
    with pytest.raises(RuntimeError, match=r"Failed to complete file in time|Block writer is closed"):
        kill_while_writing(mended, client, f"{folder}/x", data, MiB)
    assert client.get_file_info(f"{folder}/x").length < len(data)  # a part of it stays under the name
    put(client, f"{folder}/y", data)  # so: write all of it again, under another name
    assert client.read(f"{folder}/y").read() == data


def test_a_reader_and_a_writer_outlive_the_namenode(mended: Hdfs, client: Client, folder: str) -> None:
    data = noise(3 * MiB)
    put(client, f"{folder}/x", data)
    reader, writer = client.read(f"{folder}/x"), client.create(f"{folder}/y")
    writer.write(data)
    mended.namenode.kill()
    assert reader.read_range(MiB, MiB) == data[MiB : 2 * MiB]
    mended.namenode.start()
    mended.wait()
    writer.write(data)
    writer.close()
    assert client.read(f"{folder}/y").read() == data + data


def test_a_question_waits_for_the_namenode(mended: Hdfs, client: Client, folder: str) -> None:
    put(client, f"{folder}/x", b"x")
    mended.namenode.kill()
    later = threading.Timer(3, mended.namenode.start)
    later.start()
    try:
        assert client.get_file_info(f"{folder}/x").length == 1
    except RuntimeError as error:  # said by a NameNode that has just begun to listen
        if "RetriableException" not in str(error):
            raise
    finally:
        later.join()


def test_a_namenode_that_hangs_is_waited_for(mended: Hdfs, client: Client, folder: str) -> None:
    mended.namenode.pause()
    later = threading.Timer(3, mended.namenode.go_on)
    later.start()
    put(client, f"{folder}/x", b"x")
    later.join()


@pytest.mark.parametrize("what", ["create", "rename", "mkdirs", "delete"])
def test_safe_mode(mended: Hdfs, client: Client, folder: str, what: str) -> None:
    put(client, f"{folder}/x", b"x")
    does: dict[str, Any] = {
        "create": lambda: put(client, f"{folder}/y", b""),
        "rename": lambda: client.rename(f"{folder}/x", f"{folder}/y"),
        "mkdirs": lambda: client.mkdirs(f"{folder}/y", 0o755, True),
        "delete": lambda: client.delete(f"{folder}/x", True),
    }
    mended.admin("-safemode", "enter")
    try:
        with pytest.raises(RuntimeError, match=r"SafeModeException.*Name node is in safe mode"):
            does[what]()
        assert client.read(f"{folder}/x").read() == b"x"
    finally:
        mended.admin("-safemode", "leave")


def test_of_erasure_coding_a_lost_unit_of_xor_is_not_computed(mended: Hdfs, client: Client, folder: str) -> None:
    """Nor one that no DataNode has reported yet."""
    data = noise(2 * MiB)
    mended.admin_ec("-enablePolicy", "-policy", "XOR-2-1-1024k")
    mended.request("PUT", folder, "SETECPOLICY", ecpolicy="XOR-2-1-1024k")
    put(client, f"{folder}/x", data)
    wait_until(lambda: len(replicas(mended, f"{folder}/x")[0]) == 3, "all units' reports")
    assert client.read(f"{folder}/x").read() == data
    mended.kill_datanode(replicas(mended, f"{folder}/x")[0][0])
    with pytest.raises(RuntimeError, match="UnsupportedErasureCodingPolicy"):
        client.read(f"{folder}/x").read()


def test_of_erasure_coding_two_lost_units_of_reed_solomon_are_computed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = noise(10 * MiB)
    with started(Hdfs(tmp_path / "hdfs", datanodes=5), request) as cluster:
        client, folder = Client(cluster.url), urlsplit(cluster.new_folder()).path
        cluster.admin_ec("-enablePolicy", "-policy", "RS-3-2-1024k")
        client.mkdirs(folder, 0o755, True)
        cluster.request("PUT", folder, "SETECPOLICY", ecpolicy="RS-3-2-1024k")
        put(client, f"{folder}/x", data)
        wait_until(lambda: all(len(block) == 5 for block in replicas(cluster, f"{folder}/x")[:3]), "all units' reports")
        for n in (1, 2):
            cluster.kill_datanode(n)
        assert client.read(f"{folder}/x").read() == data


def test_a_corrupt_replica(mended: Hdfs, client: Client, folder: str) -> None:
    data = noise(MiB // 2, 7)
    put(client, f"{folder}/x", data)
    files = block_files(mended, data)
    assert len(files) == 2
    for path in files:
        assert all(client.read(f"{folder}/x").read() == data for _ in range(4))  # with one bad replica: from the other
        content = bytearray(data)
        content[1000:1004] = b"oops"
        path.write_bytes(content)
    with pytest.raises(RuntimeError, match="All DataNodes failed"):
        client.read(f"{folder}/x").read()
    assert client.read(f"{folder}/x").read_range(300_000, 400) == data[300_000:300_400]
