"""The cache on the node: parts arrive whole or not at all, whoever is killed, and never cost more room than was given."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, StorageError
from shardwright.schema import Field, Schema
from shardwright.storage.part_cache import CachePlace, Content, NoRoomError, PartCache
from tests.datasets import publish
from tests.reader.slow_files import slow_files

SCHEMA = Schema(fields=(Field(name="array", dtype="uint8", shape=(25, 40)), Field(name="label", dtype="int64")))
SAMPLES = 200
A, B, C = (bytes([number]) * 1000 for number in (1, 2, 3))


def content(data):
    return Content(hashlib.sha256(data).hexdigest(), len(data))


def reading(data):
    return lambda start, stop: data[start:stop]


def open_cache(directory, limit, *files):
    return PartCache(CachePlace(directory=str(directory), limit_bytes=limit), [content(data) for data in files])


def put(cache, data):
    return cache.bring(content(data), reading(data), where="slow://there")


def held(directory):
    """The names of the files in a cache, without what is written beside them."""
    return {path.name for path in Path(directory).iterdir() if len(path.name) == 64}


def names(*files):
    return {content(data).sha256 for data in files}


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def threads_end():
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "shardwright-cache"])


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "dataset"
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (SAMPLES, 25, 40), np.uint8)
    publish(folder, {"train": {"array": arrays, "label": np.arange(SAMPLES)}}, SCHEMA, part_samples=25, row_group_samples=10)
    return folder


def parts_of(root):
    return sorted((root / "v000001").rglob("part-*.parquet"))


def test_a_second_epoch_and_a_second_job_ask_the_storage_for_nothing(root, tmp_path):
    local = sw.open_dataset(root, split="train").loader(batch_size=16, world=sw.World(), seed=3, epochs=3)
    expected = [batch["label"].tolist() for _ in range(3) for batch in local]
    cache = tmp_path / "cache"
    with slow_files() as files:
        dataset = sw.open_dataset(f"slow://{root}", split="train", cache=cache)
        loader = dataset.loader(batch_size=16, world=sw.World(), seed=3, epochs=3)
        found = [batch["label"].tolist() for batch in loader]
        until(lambda: len(held(cache)) == len(parts_of(root)))
        threads_end()
        files.asked.clear()
        found += [batch["label"].tolist() for _ in range(2) for batch in loader]
        assert files.asked == []
        assert found == expected
        again = sw.open_dataset(f"slow://{root}", split="train", cache=cache)
        files.asked.clear()
        job = again.loader(batch_size=16, world=sw.World(), seed=3, epochs=3)
        assert [batch["label"].tolist() for _ in range(3) for batch in job] == expected
        assert files.asked == []
        assert again.source.columns.files.local


def test_every_kind_of_column_reads_from_the_cache(tmp_path):
    fields = (
        Field(name="picture", dtype="uint8", shape=(None, 5), codec="image"),
        Field(name="text", dtype="string"),
        Field(name="label", dtype="int64"),
    )
    rng = np.random.default_rng(0)
    pictures = [imagecodecs.png_encode(rng.integers(0, 256, (row % 7 + 1, 5), np.uint8)) for row in range(80)]
    data = {"picture": pictures, "text": [f"sample {row}" for row in range(80)], "label": np.arange(80)}
    root, cache = tmp_path / "dataset", tmp_path / "cache"
    publish(root, {"train": data}, Schema(fields=fields), shards=2, part_samples=25, row_group_samples=10)

    def epochs(dataset):
        loader = dataset.loader(batch_size=16, world=sw.World(), epochs=2)
        for _ in range(2):
            for batch in loader:
                yield [array.tolist() for array in batch["picture"]], batch["text"].tolist(), batch["label"].tolist()
            threads_end()

    with slow_files() as files:
        expected = list(epochs(sw.open_dataset(root)))
        assert list(epochs(sw.open_dataset(f"slow://{root}", cache=cache))) == expected
        dataset = sw.open_dataset(f"slow://{root}", cache=cache)
        files.asked.clear()
        assert list(epochs(dataset)) == expected
        assert files.asked == []


def test_each_part_is_fetched_once_by_one_of_two_processes(root, tmp_path):
    cache, counted = tmp_path / "cache", tmp_path / "counted"
    processes = [subprocess.Popen([sys.executable, "-c", _READER, str(root), str(cache), str(counted)]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(held(cache)) == len(parts_of(root))
    brought = counted.read_text().split()
    assert sorted(brought) == sorted(set(brought))
    assert len(brought) == len(parts_of(root))


_READER = """
import sys, time, threading
from pathlib import Path
import shardwright as sw
from shardwright.storage import part_cache
from tests.reader.slow_files import slow_files
root, cache, counted = sys.argv[1:]
copy = part_cache.PartCache._copy
def counting(self, file, content, read, going):
    with open(counted, "a") as out:
        out.write(content.sha256 + "\\n")
    return copy(self, file, content, read, going)
part_cache.PartCache._copy = counting
with slow_files(0.01):
    dataset = sw.open_dataset("slow://" + root, split="train", cache=cache)
    loader = dataset.loader(batch_size=16, world=sw.World(), epochs=1, last="pad")
    assert len({label for batch in loader for label in batch["label"].tolist()}) == 200
    end = time.monotonic() + 40
    while any(t.name == "shardwright-cache" for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.02)
"""

_KILLED = """
import sys, hashlib, time
from shardwright.storage.part_cache import CachePlace, Content, PartCache
data = b"\\x01" * 1000
content = Content(hashlib.sha256(data).hexdigest(), len(data))
cache = PartCache(CachePlace(directory=sys.argv[1]), [content])
lock = cache.claim("f" * 64)
def read(start, stop):
    print("reading", flush=True)
    time.sleep(60)
cache.bring(content, read, where="there")
"""


def test_what_a_killed_process_left_is_removed_and_its_part_is_fetched_by_another(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"reading\n"
    cache = open_cache(tmp_path, None, A)
    assert cache.claim("f" * 64) is None
    assert put(cache, A) is False, "another process is at it"
    assert len(list(tmp_path.glob("*.partial"))) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = open_cache(tmp_path, None, A)
    assert not list(tmp_path.glob("*.partial"))
    claim = again.claim("f" * 64)
    assert claim is not None
    os.close(claim)
    assert put(again, A)
    assert again.find(content(A)).read_bytes() == A


def test_the_file_used_longest_ago_makes_room_and_none_that_is_open(tmp_path):
    for number, data in enumerate((A, B)):
        assert put(open_cache(tmp_path, 2500, data), data)
        os.utime(tmp_path / f"{content(data).sha256}.json", (number, number))
    (tmp_path / "mine.txt").write_text("x" * 5000)
    assert open_cache(tmp_path, 2500, A).find(content(A)), "used again, and closed"
    assert put(open_cache(tmp_path, 2500, C), C)
    assert held(tmp_path) == names(A, C)
    assert (tmp_path / "mine.txt").exists()
    reader, other = open_cache(tmp_path, 2500, A, C), open_cache(tmp_path, 2500, B)
    with pytest.raises(NoRoomError, match=r"holds 2000 bytes of at most 2500, and 1000 more do not fit"):
        put(other, B)
    assert held(tmp_path) == names(A, C)
    del reader
    assert put(other, B)


def test_a_job_with_a_smaller_limit_takes_nothing_from_one_with_a_larger(tmp_path):
    large = open_cache(tmp_path, 10_000, A, B)
    assert put(large, A)
    assert put(large, B)
    small = open_cache(tmp_path, 1500, C)
    with pytest.raises(NoRoomError, match="at most 1500"):
        put(small, C)
    assert held(tmp_path) == names(A, B)


def test_wrong_bytes_are_asked_for_again_and_never_kept(tmp_path):
    cache, answers = open_cache(tmp_path, None, A), [B, A]
    assert cache.bring(content(A), lambda start, stop: answers.pop(0), where="there")
    assert cache.find(content(A)).read_bytes() == A
    cache = open_cache(tmp_path / "other", None, A)
    with pytest.raises(CorruptError, match=r"hdfs://there: expected sha256 .* found .*, twice; copy the file there again"):
        cache.bring(content(A), reading(B), where="hdfs://there")
    assert held(tmp_path / "other") == set()
    assert not list((tmp_path / "other").glob("*.partial"))


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(B), lambda path: path.write_bytes(A[:-1])])
def test_a_cached_file_that_was_changed_is_fetched_again(tmp_path, damage, caplog):
    assert put(open_cache(tmp_path, None, A), A)
    damage(tmp_path / content(A).sha256)
    cache = open_cache(tmp_path, None, A)
    with caplog.at_level(logging.WARNING):
        assert cache.find(content(A)) is None
    assert "is not what was written there: removed, and fetched again" in caplog.text
    assert put(cache, A)
    assert cache.find(content(A)).read_bytes() == A


def test_a_damaged_part_in_the_cache_is_read_from_where_it_came(root, tmp_path):
    cache = tmp_path / "cache"
    with slow_files():
        dataset = sw.open_dataset(f"slow://{root}", split="train", cache=cache)  # without it, nobody wants the part any more
        dataset.take([0])
        threads_end()
        part = cache / hashlib.sha256(parts_of(root)[0].read_bytes()).hexdigest()
        whole = part.read_bytes()
        part.write_bytes(bytes(len(whole)))
        again = sw.open_dataset(f"slow://{root}", split="train", cache=cache)
        assert np.array_equal(again.take(range(9))["array"], sw.open_dataset(root, split="train").take(range(9))["array"])
        threads_end()
    assert part.read_bytes() == whole


def test_a_copied_cache_is_read_through_once_and_used(tmp_path):
    assert put(open_cache(tmp_path, None, A), A)
    path = tmp_path / content(A).sha256
    os.utime(path, (5, 5))
    assert open_cache(tmp_path, None, A).find(content(A)) == path
    assert '"modified_ns": 5000000000' in path.with_name(f"{path.name}.json").read_text()


def test_wrong_bytes_at_the_source_end_the_reading_with_their_place(root, tmp_path):
    part = parts_of(root)[0]
    data = bytearray(part.read_bytes())
    data[-1200] ^= 1  # in the footer, which nobody needs who reads addressable fields
    part.write_bytes(data)
    with slow_files():
        dataset = sw.open_dataset(f"slow://{root}", split="train", cache=tmp_path / "cache")
        dataset.take([0])
        threads_end()
        with pytest.raises(CorruptError, match=rf"{part.name}: expected sha256 .* twice"):
            dataset.take([1])


def test_what_does_not_fit_is_read_remotely_and_said_once(root, tmp_path, caplog):
    size = parts_of(root)[0].stat().st_size
    cache = tmp_path / "cache"
    with slow_files(), caplog.at_level(logging.WARNING):
        dataset = sw.open_dataset(f"slow://{root}", split="train", cache=cache, cache_limit_bytes=3 * size + size // 2)
        loader = dataset.loader(batch_size=16, world=sw.World(), epochs=3, last="pad")
        assert len({label for batch in loader for label in batch["label"].tolist()}) == SAMPLES
        threads_end()
        kept = held(cache)
        assert len(kept) == 3
        assert len({label for _ in range(2) for batch in loader for label in batch["label"].tolist()}) == SAMPLES
        threads_end()
    assert held(cache) == kept, "nothing was put in the place of another part of the same data"
    assert caplog.text.count("parts that are not in it are read remotely") == 1


def test_a_limit_smaller_than_a_part_is_a_warning(root, tmp_path, caplog):
    with slow_files(), caplog.at_level(logging.WARNING):
        dataset = sw.open_dataset(f"slow://{root}", split="train", cache=tmp_path / "cache", cache_limit_bytes=1000)
        assert dataset.take([3, 190])["label"].tolist() == [3, 190]
        threads_end()
    assert "holds 0 bytes of at most 1000" in caplog.text
    assert held(tmp_path / "cache") == set()


def _mount(tmp_path, options):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=False, capture_output=True).returncode:
        pytest.skip("this system does not let root mount a tmpfs")
    return place


def test_a_full_disk_is_a_warning(root, tmp_path, caplog):
    size = parts_of(root)[0].stat().st_size
    disk = _mount(tmp_path, f"size={size // 4096 * 4096 * 5 // 2}")
    try:
        with slow_files(), caplog.at_level(logging.WARNING):
            dataset = sw.open_dataset(f"slow://{root}", split="train", cache=disk, cache_limit_bytes=2**40)
            loader = dataset.loader(batch_size=16, world=sw.World(), epochs=1, last="pad")
            assert len({label for batch in loader for label in batch["label"].tolist()}) == SAMPLES
            threads_end()
            assert 1 <= len(held(disk)) < len(parts_of(root))
            assert not list(disk.glob("*.partial"))
        assert caplog.text.count("no space left") == 1
        del dataset, loader
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_directory_that_cannot_be_written_is_refused(root, tmp_path):
    disk = _mount(tmp_path, "size=1m,ro")
    try:
        with (
            slow_files(),
            pytest.raises(StorageError, match=r"cache: can't write in .*disk \(Read-only file system\); give a dir"),
        ):
            sw.open_dataset(f"slow://{root}", split="train", cache=disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_options_that_make_no_sense_are_refused(root, tmp_path):
    (tmp_path / "file").write_text("")
    with slow_files():
        with pytest.raises(StorageError, match=r"can't write in .*file \("):
            sw.open_dataset(f"slow://{root}", split="train", cache=tmp_path / "file")
        with pytest.raises(ConfigError, match="cache_limit_bytes: expected at least 1, found 0"):
            sw.open_dataset(f"slow://{root}", split="train", cache=tmp_path / "c", cache_limit_bytes=0)
        with pytest.raises(ConfigError, match="cache_limit_bytes: it goes with cache="):
            sw.open_dataset(f"slow://{root}", split="train", cache_limit_bytes=5)
    with pytest.raises(ConfigError, match="is a local path, whose files are mapped as they lie there"):
        sw.open_dataset(root, split="train", cache=tmp_path / "c")


def test_a_disk_where_locks_have_no_effect_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)  # as on some network file systems
    with pytest.raises(StorageError, match="locks have no effect in"):
        CachePlace(directory=str(tmp_path)).prepare()


def test_a_name_in_the_index_never_becomes_a_path(tmp_path):
    with pytest.raises(CorruptError, match=r"expected a sha256 of 64 hexadecimal digits, found '\.\./\.\./etc/passwd'"):
        PartCache(CachePlace(directory=str(tmp_path)), [Content("../../etc/passwd", 3)])


def test_closing_leaves_no_thread_and_no_descriptor(root, tmp_path):
    with slow_files(0.05):
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        for _ in range(5):
            dataset = sw.open_dataset(f"slow://{root}", split="train", cache=tmp_path / "cache")
            dataset.take([0, 60, 120, 199])
            del dataset
        threads_end()
        gc.collect()
        until(lambda: not before or len(os.listdir("/proc/self/fd")) <= before)
    open_cache(tmp_path / "cache", None)
    assert len(list((tmp_path / "cache").glob("*.lease"))) <= 1
    assert not list((tmp_path / "cache").glob("*.partial"))
