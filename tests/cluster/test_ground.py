"""What the product builds on in hdfs-native, on real daemons: a release of it that behaves otherwise is noticed here.

What it does when daemons fail: test_ground_faults.py.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hdfs_native import Client, WriteOptions

from tests.cluster.daemon import wait_until
from tests.cluster.hdfs import Hdfs

MiB = 2**20


@pytest.fixture
def client(hdfs: Hdfs) -> Client:
    return Client(hdfs.url)


@pytest.fixture
def folder(hdfs: Hdfs) -> str:
    """A path of its own, made."""
    return made(hdfs)


def made(hdfs: Hdfs) -> str:
    path = urlsplit(hdfs.new_folder("ground")).path
    Client(hdfs.url).mkdirs(path, 0o755, True)
    return path


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def put(client: Client, path: str, data: bytes, **options: Any) -> None:
    with client.create(path, WriteOptions(**options)) as file:
        file.write(data)


def test_create_is_exclusive(client: Client, folder: str) -> None:
    put(client, f"{folder}/x", b"one")
    with pytest.raises(FileExistsError):
        put(client, f"{folder}/x", b"two")
    put(client, f"{folder}/x", b"three", overwrite=True)
    assert client.read(f"{folder}/x").read() == b"three"
    with pytest.raises(FileNotFoundError):
        put(client, f"{folder}/no/x", b"", create_parent=False)


def test_a_body_that_fails_leaves_a_file_that_looks_whole(client: Client, folder: str) -> None:
    def write() -> None:
        with client.create(f"{folder}/x") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert client.get_file_info(f"{folder}/x").length == 4  # so: a temporary name, then rename


def test_rename(client: Client, folder: str) -> None:
    for name in ("a", "b"):
        put(client, f"{folder}/{name}", name.encode())
        client.mkdirs(f"{folder}/{name}-empty", 0o755, True)
        put(client, f"{folder}/{name}-full/x", name.encode())
    for old, new in (("a", "b"), ("a-full", "b-full"), ("a-full", "b-empty")):
        with pytest.raises(FileExistsError):
            client.rename(f"{folder}/{old}", f"{folder}/{new}", False)
    for old, new in (("a", "b-empty"), ("a", "b-full"), ("a-empty", "b")):
        with pytest.raises(RuntimeError, match="must both be"):
            client.rename(f"{folder}/{old}", f"{folder}/{new}", False)
    for old, new in (("missing", "c"), ("a", "missing/c")):
        with pytest.raises(FileNotFoundError):
            client.rename(f"{folder}/{old}", f"{folder}/{new}", False)
    client.rename(f"{folder}/a", f"{folder}/b", True)
    assert client.read(f"{folder}/b").read() == b"a"
    with pytest.raises(RuntimeError, match="not empty"):
        client.rename(f"{folder}/a-full", f"{folder}/b-full", True)
    client.rename(f"{folder}/a-full", f"{folder}/c-full", False)
    assert client.read(f"{folder}/c-full/x").read() == b"a"


def test_block_size_replication_and_permission(client: Client, folder: str) -> None:
    put(client, f"{folder}/x", noise(300_000), block_size=2**16, replication=3, permission=0o640)
    info = client.get_file_info(f"{folder}/x")
    assert (info.blocksize, info.replication, oct(info.permission)) == (2**16, 3, "0o640")
    with pytest.raises(RuntimeError, match="min-block-size"):
        put(client, f"{folder}/y", b"x", block_size=1000)


def test_reads_and_writes_from_several_threads(client: Client, folder: str) -> None:
    def there_and_back(number: int) -> bool:
        data = noise(3 * MiB + number, number)
        put(client, f"{folder}/{number}", data)
        file = client.read(f"{folder}/{number}")
        return bytes(file.read()) == data and bytes(file.read_range(MiB - 5, 10)) == data[MiB - 5 : MiB + 5]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(16)))


def test_one_reader_from_several_threads(client: Client, folder: str) -> None:
    data = noise(4 * MiB)
    put(client, f"{folder}/x", data)
    file = client.read(f"{folder}/x")
    begins = np.random.default_rng(1).integers(0, 4 * MiB - 70_000, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda begin: bytes(file.read_range(begin, 70_000)), begins))
    assert found == [data[begin : begin + 70_000] for begin in begins]


@pytest.mark.parametrize(
    "names, space, error",
    [
        (3, 9 * MiB, "NSQuotaExceededException.*The NameSpace quota .directories and files. of directory {} is exceeded"),
        (9, 3 * MiB, "DSQuotaExceededException.*The DiskSpace quota of {} is exceeded"),
    ],
)
def test_quota(hdfs: Hdfs, client: Client, folder: str, names: int, space: int, error: str) -> None:
    hdfs.request("PUT", folder, "SETQUOTA", namespacequota=names, storagespacequota=space)
    put(client, f"{folder}/1", b"x")  # of one block, for which 2 MiB are asked for until it is closed
    if space > 4 * MiB:
        put(client, f"{folder}/2", b"x")
    with pytest.raises(RuntimeError, match=error.format(folder)):
        put(client, f"{folder}/3", noise(2 * MiB))
    assert ("3" in [status.path[-1] for status in client.list_status(folder)]) == (names > 3)  # which is left, and empty


def test_permission_denied(hdfs: Hdfs, client: Client, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(client, f"{folder}/x", b"secret", permission=0o600)
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    other = Client(hdfs.url)
    for what in (lambda: put(other, f"{folder}/y", b""), lambda: other.read(f"{folder}/x")):
        with pytest.raises(RuntimeError, match="Permission denied: user=somebody"):
            what()


def test_a_token_file_without_tokens_does_no_harm(
    hdfs: Hdfs, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A YARN container of an unsecured cluster has HADOOP_TOKEN_FILE_LOCATION too."""
    path = tmp_path / "container_tokens"
    path.write_bytes(b"HDTS\x00\x00\x00")  # Hadoop's Credentials, version 0 (Writable): no tokens, no secret keys
    monkeypatch.setenv("HADOOP_TOKEN_FILE_LOCATION", str(path))
    put(Client(hdfs.url), f"{folder}/x", b"x")
    assert Client(hdfs.url).get_file_info(f"{folder}/x").owner == os.environ["HADOOP_USER_NAME"]


def complete(client: Client, path: str) -> bool:
    """Whether all units with data have been reported by their DataNodes; hdfs-native can't compute those of XOR."""
    try:
        client.read(path).read()
    except RuntimeError as error:
        if "UnsupportedErasureCodingPolicy" not in str(error):
            raise
        return False
    return True


def test_an_erasure_coded_directory(hdfs: Hdfs, client: Client, folder: str) -> None:
    hdfs.admin_ec("-enablePolicy", "-policy", "XOR-2-1-1024k")
    hdfs.request("PUT", folder, "SETECPOLICY", ecpolicy="XOR-2-1-1024k")
    for size in (0, 10, MiB, 5 * MiB + 3):
        data = noise(size)
        put(client, f"{folder}/{size}", data)
        wait_until(partial(complete, client, f"{folder}/{size}"), "all units' reports")
        assert client.read(f"{folder}/{size}").read() == data
        if size > 2 * MiB:
            assert client.read(f"{folder}/{size}").read_range(MiB - 3, MiB + 6) == data[MiB - 3 : 2 * MiB + 3]
