"""The contract of a storage: whole files or none, names that stay inside, clear words where the file system refuses."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from shardwright.errors import CorruptError, StorageError
from shardwright.storage import LocalStorage, Storage, check_name, open_writable, open_storage
from shardwright.storage.base import local_path_of
from shardwright.storage.remote import RemoteStorage

FILES = {"a.txt": b"0123456789", "d/b": b"", "d/e/c": bytes(range(256))}


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "root")
    storage.make_directory()
    return storage


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


_OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", ".."]


@pytest.mark.parametrize("name", _OUTSIDE)
def test_names_that_lead_out_are_refused(filled: Storage, name: str) -> None:
    with pytest.raises(StorageError, match=r"expected a relative name without '..'"):
        filled.read(name)
    with pytest.raises(StorageError):
        filled.ranges(name, [(0, 1)])


def test_checked_names() -> None:
    assert check_name("a/b.c") == "a/b.c"
    for name in ["", *_OUTSIDE]:
        with pytest.raises(StorageError, match=r"expected a relative name without '..'"):
            check_name(name)


@pytest.mark.parametrize("name", _OUTSIDE[:3])
def test_nothing_is_written_outside(local: LocalStorage, name: str) -> None:
    local.write("inside", b"x")
    for act in (
        lambda: local.write(name, b"x"), lambda: local.create(name, b"x"), lambda: local.delete(name),
        lambda: local.rename("inside", name), lambda: local.rename(name, "inside2"), lambda: local.make_directory(name),
    ):  # fmt: skip
        with pytest.raises(StorageError):
            act()
    assert local.names() == ["inside"]


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
    with pytest.raises(StorageError, match="expected a local path or file:// to write to, found 'memory://x'"):
        open_writable("memory://x")


def test_a_write_replaces_and_leaves_nothing_else(local: LocalStorage) -> None:
    local.write("f", b"one")
    local.write("f", b"two")
    assert local.read("f") == b"two"
    assert local.names() == ["f"]


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


def test_readers_never_see_half_a_file(local: LocalStorage) -> None:
    data = [bytes([n]) * 200_000 for n in range(2)]
    local.write("f", data[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in data:
                local.write("f", content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {local.read("f") for _ in range(200)}
    finally:
        stop.set()
        writer.join()
    assert seen <= set(data)


def test_only_one_thread_creates(local: LocalStorage) -> None:
    barrier, won = threading.Barrier(8), []

    def create(number: int) -> None:
        barrier.wait()
        if local.create("lock", bytes([number]) * 1000):
            won.append(number)

    for _ in range(20):
        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert local.read("lock") == bytes([won.pop()]) * 1000
        local.delete("lock")
    assert local.names() == []


def test_rename_never_overwrites(local: LocalStorage) -> None:
    local.write("f", b"f")
    local.make_directory("old")
    local.write("old/x", b"x")
    local.make_directory("taken")
    for source in ("f", "old"):
        with pytest.raises(FileExistsError):
            local.rename(source, "taken")
    local.rename("old", "new")
    assert local.read("new/x") == b"x"
    assert not local.exists("old")
    with pytest.raises(FileNotFoundError):
        local.rename("nothing", "somewhere")


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
