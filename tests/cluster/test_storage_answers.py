"""Answers that are lost, names that other URLs would read otherwise, and files that are replaced: on real HDFS."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from shardwright.errors import CorruptError, LockedError
from shardwright.format.layout import LATEST, LOCK
from shardwright.format.versions import read_latest
from shardwright.stages.publish import Publication
from shardwright.storage import HdfsStorage, Lock, open_storage, open_writable
from tests.cluster.hdfs import Hdfs
from tests.cluster.test_storage import path_of, published
from tests.unit.test_publish import manifest_of, publish


class Lossy:
    """A way to the NameNode on which the answer to every other rename is lost, and the connection with it."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._to = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.server = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._renames = itertools.count()
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self._listener.accept()[0], socket.create_connection(self._to)
                lose = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, lose), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, lose), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, lose: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(2**16):
                if b"rename2" in data and next(self._renames) % 2 == 0:
                    lose.set()
                server.sendall(data)
        server.close()

    def _answer(self, client: socket.socket, server: socket.socket, lose: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(2**16):
                if lose.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        for one in (client, server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def way(hdfs: Hdfs) -> Iterator[Lossy]:
    found = Lossy(urlsplit(hdfs.url).netloc)
    yield found
    found.close()
    assert found.lost


@pytest.fixture
def lossy(hdfs: Hdfs, way: Lossy) -> HdfsStorage:
    storage = open_writable(f"hdfs://{way.server}{path_of(published(hdfs))}")
    assert isinstance(storage, HdfsStorage)
    return storage


class Starting:
    """A client of a NameNode that is killed after a rename, and started again: its answer is lost, the next is an error."""

    def __init__(self, client: Any) -> None:
        self._client, self._killed = client, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def rename(self, source: str, target: str, overwrite: bool = False) -> None:
        self._client.rename(source, target, overwrite)
        if not self._killed:
            self._killed = True
            raise RuntimeError(r'RPCError("org.apache.hadoop.ipc.RetriableException", "NameNode still not started\n\tat x")')


def test_the_name_node_starts_again_after_a_rename(hdfs: Hdfs, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = published(hdfs)
    connection = storage._connection
    client = connection.client
    for act in (lambda: storage.create("c", b"1"), lambda: storage.rename("c", "d"), lambda: storage.write("d", b"2")):
        monkeypatch.setattr(connection, "client", Starting(client))
        assert act() in (True, None)
    assert {name: storage.read(name) for name in storage.names()} == {"d": b"2"}


def test_lost_answers_of_files(lossy: HdfsStorage) -> None:
    assert lossy.create("c", b"1")
    assert not lossy.create("c", b"2")
    lossy.write("w", b"1")
    lossy.write("w", b"2")
    with lossy.new_file("n") as path:
        path.write_bytes(b"3")
    lossy.rename("n", "m")
    assert {name: lossy.read(name) for name in lossy.names()} == {"c": b"1", "w": b"2", "m": b"3"}
    with pytest.raises(FileExistsError, match="m to w"):
        lossy.rename("m", "w")
    with pytest.raises(FileNotFoundError, match="nothing to x"):
        lossy.rename("nothing", "x")


def test_a_version_is_published_though_the_answer_is_lost(lossy: HdfsStorage) -> None:
    assert publish(lossy, manifest_of(3)).version == "v000001"
    assert publish(lossy, manifest_of(4)).version == "v000002"
    assert lossy.names() == [LATEST, "v000001", "v000002"]
    assert read_latest(lossy) == "v000002"


def test_a_stale_lock_is_taken_though_the_answer_is_lost(lossy: HdfsStorage) -> None:
    lossy.write(LOCK, b'{"host": "elsewhere", "pid": 4}')
    lossy._connection.client.set_times(path_of(lossy, LOCK), 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shardwright.storage.lock.WATCH_SECONDS", 0)
        with Lock(lossy) as lock:
            lock.check()
    assert lossy.names() == []


@pytest.mark.parametrize("name", ["a#b", "a?b=1", "100 % ü", "%20", "a//b/"])
def test_names_in_urls(hdfs: Hdfs, name: str) -> None:
    top = published(hdfs)
    storage = open_writable(f"{top.url}/{name}")
    storage.make_directory()
    storage.write("f#?%20 &;", b"x")
    tidy = name.replace("//", "/").rstrip("/")
    assert storage.url == f"{top.url}/{tidy}"
    assert list(top.files()) == [f"{tidy}/f#?%20 &;"]
    assert open_storage(storage.url).ranges("f#?%20 &;", [(0, 1)]) == [b"x"]
    assert open_storage(f"hdfs://{path_of(top)}/{tidy}").read("f#?%20 &;") == b"x"
    assert storage.child("c d").url == f"{storage.url}/c d"


def test_the_root(hdfs: Hdfs) -> None:
    """Of any form, so that what is named below is again a URL."""
    for url in ("hdfs://", "hdfs:///"):
        root = open_writable(url)
        assert (root.exists(), root.child("user").exists(), root.child("user").url) == (True, True, "hdfs:///user")


def test_a_file_replaced_by_one_of_its_size(hdfs: Hdfs) -> None:
    storage, other = published(hdfs), open_storage(published(hdfs).url)
    storage.write("f", b"old")
    assert storage.ranges("f", [(0, 3)]) == [b"old"]
    open_writable(storage.url).write("f", b"new")
    assert storage.ranges("f", [(0, 3)]) == [b"new"]
    with pytest.raises(FileNotFoundError):
        other.ranges("f", [(0, 3)])


def test_a_lasting_file_that_was_replaced_all_the_same(hdfs: Hdfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never bytes of both, nor a panic where the new one is shorter."""
    writer = published(hdfs)
    writer.write("f", b"0123456789")
    storage = open_storage(writer.url, lasting=True)
    assert isinstance(storage, HdfsStorage)
    assert storage.ranges("f", [(0, 3)]) == [b"012"]
    writer.write("f", b"new")
    monkeypatch.setattr(storage._readers[1]["f"], "_reader", None)  # as after an error
    with pytest.raises(CorruptError, match="f: expected 10 bytes, found 3: replaced while it was read"):
        storage.ranges("f", [(5, 9)])


def test_an_output_that_is_removed_is_not_brought_back(hdfs: Hdfs) -> None:
    for step in ("once", "publish"):
        storage = published(hdfs)
        with Publication(storage, "x") as publication:
            publication.attempt.make_directory()
            storage.delete()
            with pytest.raises(LockedError, match=f"lost the lock of {storage.url} .*was the directory removed"):
                publication.once("s", lambda: 1) if step == "once" else publication.publish({"a": b"x"}, manifest_of(1), "")
            assert not storage.exists()


def test_a_file_that_gets_no_name_is_removed(lossy: HdfsStorage) -> None:
    lossy.write("f", b"x")
    with pytest.raises(FileExistsError), lossy.new_file("f") as path:
        path.write_bytes(b"y")
    assert (lossy.names(), lossy.read("f")) == (["f"], b"x")
