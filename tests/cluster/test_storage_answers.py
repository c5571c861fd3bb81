"""Answers that are lost, names that other URLs would read otherwise, and files that are replaced: on real HDFS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shardwright.errors import CorruptError, LockedError
from shardwright.format.layout import LATEST, LOCK
from shardwright.format.versions import read_latest
from shardwright.stages.publish import Publication
from shardwright.storage import HdfsStorage, Lock, open_storage, open_writable
from tests.cluster.hdfs import Hdfs
from tests.cluster.test_storage import path_of, published
from tests.unit.test_publish import manifest_of, publish


class AsksTwice:
    """A client whose NameNode goes away after each rename that it did: hdfs-native asks its successor again."""

    def __init__(self, client: Any, between: list[Exception]) -> None:
        self._client, self.between = client, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def rename(self, source: str, target: str, overwrite: bool = False) -> None:
        self._client.rename(source, target, overwrite)
        if self.between:
            raise self.between.pop()
        self._client.rename(source, target, overwrite)


STARTING = RuntimeError(r'RPCError("org.apache.hadoop.ipc.RetriableException", "NameNode still not started\n\tat x")')


@pytest.fixture(params=[[], [STARTING]], ids=["asked again", "not started yet"])
def lossy(hdfs: Hdfs, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[HdfsStorage]:
    storage = published(hdfs)
    connection = storage._connection
    monkeypatch.setattr(connection, "client", AsksTwice(connection.client, list(request.param)))
    yield storage


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
