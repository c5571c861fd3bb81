"""The contract of a storage: whole files or none, names that stay inside, clear words where the file system refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from shardwright.errors import CorruptError, StorageError
from shardwright.storage import HdfsStorage, LocalStorage, Storage, check_name, open_storage, open_writable
from shardwright.storage.base import local_path_of
from shardwright.storage.remote import RemoteStorage
from tests.storage_contract import OUTSIDE, StorageContract

FILES = {"a.txt": b"0123456789", "d/b": b"", "d/e/c": bytes(range(256))}


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "root")
    storage.make_directory()
    return storage


class TestLocal(StorageContract):
    """A local directory keeps the contract."""

    @pytest.fixture
    def storage(self, local: LocalStorage) -> LocalStorage:
        return local


@pytest.fixture(params=["local", "memory"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "local":
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        yield open_storage(str(tmp_path))
        return
    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe_file(f"/contract/{name}", data)
    yield open_storage("memory://contract")
    memory.rm("/contract", recursive=True)


def test_reading(filled: Storage) -> None:
    assert {name: filled.read(name) for name in FILES} == FILES
    assert {name: filled.size(name) for name in FILES} == {name: len(data) for name, data in FILES.items()}
    assert filled.names() == ["a.txt", "d"]
    assert filled.names("d") == ["b", "e"]
    assert filled.names("nothing") == []
    assert filled.ranges("a.txt", [(7, 9), (0, 3), (2, 2), (0, 10)]) == [b"78", b"012", b"", b"0123456789"]
    assert filled.ranges("a.txt", []) == []


@pytest.mark.parametrize("span", [(8, 11), (10, 11), (50, 60)])
def test_a_range_past_the_end_is_an_error(filled: Storage, span: tuple[int, int]) -> None:
    with pytest.raises(CorruptError, match=f"a.txt: expected bytes {span[0]} to {span[1]}, the file ends before that"):
        filled.ranges("a.txt", [(0, 1), span])


def test_what_is_not_there(filled: Storage) -> None:
    for read in (filled.read, filled.size):
        with pytest.raises(FileNotFoundError):
            read("nothing")


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(filled: Storage, name: str) -> None:
    with pytest.raises(StorageError, match=r"expected a relative name without '..'"):
        filled.read(name)
    with pytest.raises(StorageError):
        filled.ranges(name, [(0, 1)])


def test_checked_names() -> None:
    assert check_name("a/b.c") == "a/b.c"
    for name in ["", *OUTSIDE]:
        with pytest.raises(StorageError, match=r"expected a relative name without '..'"):
            check_name(name)


def test_local_and_remote_urls(tmp_path: Path) -> None:
    assert isinstance(open_storage(str(tmp_path)), LocalStorage)
    assert open_storage(f"file://{tmp_path}").local_path() == tmp_path
    assert local_path_of(f"file:{tmp_path}") == local_path_of(f"file://localhost{tmp_path}") == tmp_path
    assert isinstance(open_storage("memory://x"), RemoteStorage)
    assert open_storage("memory://x").local_path("a") is None
    with pytest.raises(StorageError, match="expected file:///absolute/path, found 'file://relative/x'"):
        open_storage("file://relative/x")
    with pytest.raises(StorageError, match="can't open 'nosuch://x'"):
        open_storage("nosuch://x")
    for url, advice in {
        "memory://x": "other storages are only read", "webhdfs://namenode:9870/x": "WebHDFS is for reading",
        "viewfs://cluster/x": r"write the hdfs:// URL that is mounted there",
    }.items():  # fmt: skip
        with pytest.raises(
            StorageError, match=f"expected a local path, file:// or hdfs:// to write to, found '{url}': {advice}"
        ):
            open_writable(url)
    for url in ("hdfs://namenode:9000/x", "hdfs://ns1/x", "hdfs:///x"):
        assert isinstance(open_storage(url), HdfsStorage)
        assert open_storage(f"{url}/").url == url
    with pytest.raises(
        StorageError, match=r"expected hdfs://host:port/path without '\.' and '\.\.', found 'hdfs://a/b/\.\./c'"
    ):
        open_storage("hdfs://a/b/../c")
    for url in ("hdfs:/x", "s3:/x"):  # else a local directory of that name
        with pytest.raises(StorageError, match=f"a URL with '//' after its scheme, found '{url}': write {url[:-2]}/{{2}}"):
            open_storage(url)
    assert open_storage("a:b/c").local_path() == Path("a:b/c").absolute()


@pytest.mark.parametrize("name", ["a#b", "a?b", "100 %", "%20", "ü x"])
def test_names_in_hdfs_urls_stand_for_themselves(name: str) -> None:
    assert open_storage(f"hdfs://nn:1//{name}/").url == f"hdfs://nn:1/{name}"
    assert HdfsStorage("hdfs:///").child(name).url == f"hdfs:///{name}"


@pytest.mark.parametrize("broken", ["write", "replace"])
def test_a_write_that_fails_leaves_the_old_file(local: LocalStorage, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    local.write("f", b"one")
    if broken == "write":
        monkeypatch.setattr(Path, "write_bytes", write_half)
    else:
        monkeypatch.setattr(os, "replace", _raise(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        local.write("f", b"two")
    assert local.read("f") == b"one"
    assert local.names() == ["f"]


def test_delete(local: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_bytes(b"")
    local.make_directory("d/e")
    local.write("d/e/f", b"")
    (local.path / "link").symlink_to(tmp_path / "outside")
    for name in ("d", "link", "nothing"):
        local.delete(name)
    assert local.names() == []
    assert (tmp_path / "outside/kept").exists()


def test_age(local: LocalStorage) -> None:
    local.write("f", b"")
    os.utime(local.path / "f", (0, 0))
    assert local.age("f") > 10**9
    local.touch("f")
    assert local.age("f") < 60
    with pytest.raises(FileNotFoundError):
        local.touch("nothing")


_WRITES: list[Callable[[LocalStorage], object]] = [
    lambda storage: storage.write("f", b"x"),
    lambda storage: storage.create("f", b"x"),
    lambda storage: storage.rename("there", "f"),
    lambda storage: storage.make_directory("f"),
]


@pytest.mark.parametrize("write", _WRITES)
@pytest.mark.parametrize(
    "number, message",
    [
        (errno.ENOSPC, "no space left while writing .*/f: nothing was published; free space and run the same command again"),
        (errno.EDQUOT, "no space left while writing .*/f"),
        (errno.EACCES, r"no permission to write .*/f \(Permission denied\)"),
        (errno.EROFS, r"no permission to write .*/f \(Read-only file system\)"),
    ],
)
def test_what_an_operator_can_mend(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch, write: Callable[[LocalStorage], object], number: int, message: str
) -> None:
    local.write("there", b"")
    for function in ("replace", "rename", "link", "mkdir"):
        monkeypatch.setattr(os, function, _raise(number))
    with pytest.raises(StorageError, match=message):
        write(local)
    assert local.names() == ["there"]


def test_a_full_device() -> None:
    """A real one: every write to it fails."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from shardwright.storage.local import clear_errors

    with (
        pytest.raises(StorageError, match="no space left while writing /dev/full"),
        clear_errors(Path("/dev/full")),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")


def _raise(number: int) -> Callable[..., None]:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail
