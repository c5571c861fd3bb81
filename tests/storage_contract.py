"""What every storage that is written to promises; each storage's tests run it on one of their own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from shardwright.errors import CorruptError, StorageError
from shardwright.storage import WritableStorage

OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", ".."]
"""Names that would lead out of a storage."""
_MIB = 2**20


class StorageContract:
    """Subclasses give the fixture `storage`: an empty directory that exists."""

    def test_files_are_read_as_written(self, storage: WritableStorage) -> None:
        files = {"a.txt": b"0123456789", "d/b": b"", "d/e/c": bytes(range(256)), "d/a name, 100 % ü": b"x"}
        storage.make_directory("d/e")
        for name, data in files.items():
            storage.write(name, data)
        assert {name: storage.read(name) for name in files} == files
        assert {name: storage.size(name) for name in files} == {name: len(data) for name, data in files.items()}
        assert storage.files() == {name: len(data) for name, data in sorted(files.items())}
        assert storage.files("d/e") == {"c": 256}
        assert storage.child("d").files("e") == {"c": 256}
        assert storage.child("d").url == f"{storage.url}/d"
        assert (storage.names(), storage.names("d/e")) == (["a.txt", "d"], ["c"])
        assert all(storage.exists(name) for name in ("", "d", "d/e/c"))
        listed = {one.name: one for one in storage.listing()}
        assert {name: one.bytes for name, one in listed.items()} == storage.files()
        assert all(one.modified_ns > 10**18 for one in listed.values())
        assert [one.name for one in storage.listing("a.txt")] == [""]

    def test_what_is_not_there(self, storage: WritableStorage) -> None:
        storage.write("file", b"x")
        for name in ("nothing", "no/thing", "file/inside"):
            assert (storage.names(name), storage.exists(name)) == ([], False)
        assert (storage.names("file"), storage.files("nothing")) == ([], {})
        for ask in (storage.read, storage.size, storage.open, storage.age):
            with pytest.raises(FileNotFoundError, match="nothing"):
                ask("nothing")
        with pytest.raises(FileNotFoundError):
            storage.touch("nothing")
        with pytest.raises(FileNotFoundError):
            list(storage.listing("nothing"))
        with pytest.raises(FileNotFoundError):
            storage.rename("nothing", "somewhere")
        storage.delete("nothing")
        storage.delete("no/thing")

    def test_a_file_is_written_into_a_directory_that_exists(self, storage: WritableStorage) -> None:
        """Else what a killed job's last task writes would bring a directory back that was removed."""
        for write in (storage.write, storage.create):
            with pytest.raises(FileNotFoundError):
                write("gone/f", b"x")
        with pytest.raises(FileNotFoundError), storage.new_file("gone/f") as path:
            path.write_bytes(b"x")
        assert storage.names() == []

    def test_ranges(self, storage: WritableStorage) -> None:
        data = os.urandom(20 * _MIB + 17)
        with storage.new_file("f") as path:
            path.write_bytes(data)
        end = len(data)
        spans = [
            (7, 9), (0, 3), (2, 2), (0, end), (3, 9 * _MIB), (8 * _MIB - 1, 8 * _MIB + 1), (end - 1, end), (end, end),
            (5 * _MIB, 5 * _MIB + 10), (6 * _MIB, 6 * _MIB + 10), (7, 9),
        ]  # fmt: skip
        for _ in range(2):
            assert [a == data[slice(*span)] for a, span in zip(storage.ranges("f", spans), spans, strict=True)] == [True] * 11
        assert storage.ranges("f", []) == []
        for span in [(end - 1, end + 1), (end, end + 1), (end + 9, end + 10)]:
            with pytest.raises(CorruptError, match=rf"f: expected bytes {span[0]} to {span[1]}, the file ends before that"):
                storage.ranges("f", [(0, 1), span])
        with pytest.raises(FileNotFoundError):
            storage.ranges("nothing", [(0, 1)])

    def test_ranges_of_a_file_that_was_replaced(self, storage: WritableStorage) -> None:
        storage.write("f", b"short")
        assert storage.ranges("f", [(0, 5)]) == [b"short"]
        storage.write("f", b"somewhat longer")
        assert storage.ranges("f", [(9, 15)]) == [b"longer"]

    def test_many_threads_read(self, storage: WritableStorage) -> None:
        data = os.urandom(3 * _MIB)
        storage.write("f", data)
        spans = [(n * 30_011, n * 30_011 + 4_096) for n in range(100)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda span: storage.ranges("f", [span])[0], spans))
        assert found == [data[start:stop] for start, stop in spans]

    def test_an_open_file(self, storage: WritableStorage) -> None:
        data = os.urandom(10 * _MIB)
        storage.write("f", data)
        with storage.open("f") as file:
            assert file.seekable()
            assert file.read(10) == data[:10]
            assert file.tell() == 10
            file.seek(9 * _MIB)
            assert file.read() == data[9 * _MIB :]
            file.seek(-5, os.SEEK_END)
            assert file.read(100) == data[-5:]
            assert file.read(1) == b""
            file.seek(3)
            pieces = [file.read(700_001) for _ in range(16)]
            assert b"".join(pieces) == data[3:]
            file.seek(20 * _MIB)
            assert file.read(1) == b""

    def test_lines(self, storage: WritableStorage) -> None:
        storage.write("f", b"".join(b"line %d\n" % n for n in range(50_000)))
        with storage.open("f") as file:
            assert list(file)[::10_000] == [b"line %d\n" % n for n in range(0, 50_000, 10_000)]

    def test_a_write_replaces_and_leaves_nothing_else(self, storage: WritableStorage) -> None:
        storage.write("f", b"one")
        storage.write("f", b"two")
        assert storage.read("f") == b"two"
        assert storage.names() == ["f"]

    def test_readers_never_see_half_a_file(self, storage: WritableStorage) -> None:
        data = [bytes([n]) * 200_000 for n in range(2)]
        storage.write("f", data[0])
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                for content in data:
                    storage.write("f", content)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            seen = {storage.read("f") for _ in range(50)}
        finally:
            stop.set()
            writer.join()
        assert seen <= set(data)

    def test_only_one_thread_creates(self, storage: WritableStorage) -> None:
        barrier, won = threading.Barrier(8), []

        def create(number: int) -> None:
            barrier.wait()
            if storage.create("lock", bytes([number]) * 1000):
                won.append(number)

        for _ in range(5):
            threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1
            assert storage.read("lock") == bytes([won.pop()]) * 1000
            storage.delete("lock")
        assert storage.names() == []

    def test_a_new_file(self, storage: WritableStorage) -> None:
        storage.make_directory("d")
        with storage.new_file("d/part") as path:
            path.write_bytes(b"12345")
        assert storage.read("d/part") == b"12345"
        assert storage.names("d") == ["part"]

    def test_rename_never_overwrites(self, storage: WritableStorage) -> None:
        storage.write("f", b"f")
        storage.make_directory("old")
        storage.write("old/x", b"x")
        storage.make_directory("taken")
        for source in ("f", "old"):
            with pytest.raises(FileExistsError, match="taken"):
                storage.rename(source, "taken")
        storage.rename("old", "new")
        assert storage.read("new/x") == b"x"
        assert not storage.exists("old")
        with pytest.raises(FileNotFoundError):
            storage.rename("new", "no/where")

    def test_directories(self, storage: WritableStorage) -> None:
        storage.make_directory("d/e")
        storage.make_directory("d/e")
        storage.write("f", b"")
        with pytest.raises(FileExistsError):
            storage.make_directory("f")
        with pytest.raises(NotADirectoryError):
            storage.make_directory("f/d")

    def test_delete_and_discard(self, storage: WritableStorage) -> None:
        for remove in (storage.delete, storage.discard):
            storage.make_directory("d/e")
            storage.write("d/e/f", b"")
            storage.write("g", b"")
            remove("d")
            remove("g")
            assert storage.names() == []
        storage.delete()
        assert not storage.exists()

    def test_age(self, storage: WritableStorage) -> None:
        storage.write("f", b"")
        storage.make_directory("d")
        assert -1 < storage.age("f") < 60
        assert -1 < storage.age("d") < 60
        storage.touch("f")
        assert -1 < storage.age("f") < 60

    @pytest.mark.parametrize("name", OUTSIDE)
    def test_nothing_outside(self, storage: WritableStorage, name: str) -> None:
        storage.write("inside", b"x")
        for act in (
            lambda: storage.write(name, b"x"), lambda: storage.create(name, b"x"), lambda: storage.delete(name),
            lambda: storage.rename("inside", name), lambda: storage.rename(name, "inside2"), lambda: storage.child(name),
            lambda: storage.make_directory(name), lambda: storage.read(name), lambda: storage.ranges(name, [(0, 1)]),
            lambda: storage.open(name), lambda: storage.size(name), lambda: storage.discard(name),
        ):  # fmt: skip
            with pytest.raises(StorageError, match=r"expected a relative name without '..'"):
                act()
        assert storage.names() == ["inside"]

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_it_travels(self, storage: WritableStorage, method: str) -> None:
        storage.write("f", b"x")
        assert storage.ranges("f", [(0, 1)]) == [b"x"]  # what it keeps must not go with it
        with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
            assert pool.submit(_read_all, storage, "f").result(timeout=60) == [b"x", b"x", b"x"]


def _read_all(storage: WritableStorage, name: str) -> list[bytes]:
    with storage.open(name) as file:
        return [storage.read(name), *storage.ranges(name, [(0, 1)]), file.read()]
