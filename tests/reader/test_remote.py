"""Remote datasets: the same batches as from local files, fetched ahead in few requests and within bounds of memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing

import fsspec
import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, DecodeError, StorageError
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.reader.slow_files import slow_files

SAMPLES = 240
SCHEMA = Schema(
    fields=(
        Field(name="array", dtype="uint8", shape=(25, 40)),
        Field(name="picture", dtype="uint8", shape=(None, 5), codec="image"),
        Field(name="label", dtype="int64"),
        Field(name="text", dtype="string"),
        Field(name="score", dtype="float32", nullable=True),
    )
)
PLAIN = Schema(fields=(Field(name="array", dtype="uint8", shape=(25, 40)), Field(name="label", dtype="int64")))


def values(samples=SAMPLES, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "array": rng.integers(0, 256, (samples, 25, 40), np.uint8),
        "picture": [imagecodecs.png_encode(rng.integers(0, 256, (row % 7 + 1, 5), np.uint8)) for row in range(samples)],
        "label": np.arange(samples),
        "text": [f"sample {row}" for row in range(samples)],
        "score": [None if row % 5 == 0 else row / 2 for row in range(samples)],
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote") / "dataset"
    publish(folder, {"train": values()}, SCHEMA, shards=4, part_samples=25, row_group_samples=10)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/remote", recursive=True)
    yield folder
    memory.rm("/remote", recursive=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """2 MB of arrays in 64 shards."""
    folder = tmp_path_factory.mktemp("plain") / "dataset"
    data = values(2048)
    publish(folder, {"train": {name: data[name] for name in ("array", "label")}}, PLAIN, shards=64, block_samples=4)
    return folder


def epoch(loader):
    """The rest of a loader's epoch, which can be closed."""
    return iter(loader)


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, expected in ours.items():
        found = theirs[name]
        assert found.dtype == expected.dtype, name
        if expected.dtype == object:
            assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True)), name
        else:
            assert np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f"), name


@pytest.mark.parametrize("limit", [2**20, 2**30])
@pytest.mark.parametrize("shuffle", ["none", "window", "global"])
def test_the_same_batches_as_local(root, shuffle, limit):
    near, far = sw.open_dataset(str(root)), sw.open_dataset("memory://remote")
    for rank, size in ((0, 1), (1, 3), (2, 4), (5, 8)):
        made = [
            dataset.loader(batch_size=7, world=sw.World(rank, size), shuffle=shuffle, memory_limit_bytes=limit)
            for dataset in (near, far)
        ]
        for _ in range(2):
            for ours, theirs in zip(*made, strict=True):
                same(ours, theirs)
        assert made[0].state_dict() == made[1].state_dict()


def test_an_epoch_is_resumed_in_the_middle(root):
    near, far = (sw.open_dataset(url).loader(batch_size=16, world=sw.World()) for url in (str(root), "memory://remote"))
    for number, (ours, theirs) in enumerate(zip(near, far, strict=True)):
        same(ours, theirs)
        if number == 4:
            break
    again = sw.open_dataset("memory://remote").loader(batch_size=16, world=sw.World(0, 2), memory_limit_bytes=2**20)
    again.load_state_dict(far.state_dict())
    near.load_state_dict(near.state_dict())
    ours, theirs = next(iter(near)), next(iter(again))
    assert np.array_equal(ours["label"][::2], theirs["label"][:8])


@pytest.mark.parametrize("read", ["loader", "select", "balanced", "take", "arrow", "where", "item"])
def test_all_ways_to_read(root, read):
    def result(url):
        dataset = sw.open_dataset(url)
        if read == "loader":
            return list(dataset[::3].loader(batch_size=9, world=sw.World(), shuffle="none"))
        if read == "select":
            return list(dataset.select([5, 3, 200, 3]).loader(batch_size=2, world=sw.World()))
        if read == "balanced":
            return list(dataset.loader(batch_size=9, world=sw.World(), sampling=sw.Weighted("label")))
        if read == "take":
            return [dataset.take([7, -1, 100, 7, 101])]
        if read == "arrow":
            return [{"all": np.array(dataset.to_arrow().to_pylist(), object)}]
        if read == "where":
            return [dataset.where("label < 20 and score is not null").take(range(10))]
        return [{name: np.array([value], object) for name, value in dataset[-3].items()}]

    for ours, theirs in zip(result(str(root)), result("memory://remote"), strict=True):
        same(ours, theirs)


def test_requests_are_few_and_bytes_fetched_once(plain):
    """A window's blocks are fetched whole: each byte once, neighbours in one request, labels of a row group together."""
    dataset = sw.open_dataset(str(plain), columns=["array"])
    with slow_files() as files:
        far = sw.open_dataset(f"slow://{plain}")
        for shuffle in ("none", "window", "global"):
            loader = far.loader(batch_size=32, world=sw.World(), shuffle=shuffle, epochs=1)
            files.asked.clear()
            samples = sum(len(batch["label"]) for batch in loader)
            metrics = loader.metrics()
            assert samples == len(dataset) == 2048
            assert metrics.requests == len(files.asked) <= 4 * 64
            assert metrics.fetched_bytes == sum(end - start for _, start, end in files.asked) < 1.2 * metrics.bytes
            assert len(set(files.asked)) == len(files.asked)


def test_later_batches_are_on_their_way(plain):
    with slow_files(seconds=0.02) as files:
        loader = sw.open_dataset(f"slow://{plain}").loader(batch_size=64, world=sw.World(), memory_limit_bytes=2**22)
        files.asked.clear()
        with closing(epoch(loader)) as batches:
            next(batches)  # and no other is asked for
            wait_until(lambda: sum(end - start for _, start, end in files.asked) > 5 * 64 * 1008)
            assert 2 <= files.most_at_once <= 8


@pytest.mark.parametrize("shuffle", ["none", "window", "global"])
def test_memory_does_not_grow_with_shards(plain, shuffle):
    """One rank serves 64 shards of 2 MB within 1 MiB."""
    with slow_files():
        dataset = sw.open_dataset(f"slow://{plain}")
        loader = dataset.loader(batch_size=16, world=sw.World(), shuffle=shuffle, memory_limit_bytes=2**20)
        list(zip(range(3), loader, strict=False))  # what is imported and opened once
        tracemalloc.start()
        try:
            for _ in loader:
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert loader.metrics().held_bytes <= 2**20
        assert peak < 2 * 2**20


def test_a_limit_that_holds_no_two_batches_is_refused(plain):
    with slow_files():
        dataset = sw.open_dataset(f"slow://{plain}")
        problem = r"memory_limit_bytes: expected at least 4653056 for batches of 1024 samples of 1136 bytes .*, found 1048576"
        with pytest.raises(ConfigError, match=problem):
            dataset.loader(batch_size=1024, world=sw.World(), memory_limit_bytes=2**20)
        loader = dataset.loader(batch_size=1024, world=sw.World(), memory_limit_bytes=4653056)
        assert sorted(label for batch in loader for label in batch["label"].tolist()) == list(range(2048))
        assert loader.metrics().held_bytes <= 4653056
    with pytest.raises(ConfigError, match="memory_limit_bytes: expected at least 1, found 0"):
        dataset.loader(batch_size=1, world=sw.World(), memory_limit_bytes=0)


def test_a_dead_network_raises_at_its_batch_and_the_loader_goes_on_later(root):
    expected = [batch["label"] for batch in sw.open_dataset(str(root)).loader(batch_size=10, world=sw.World(), shuffle="none")]
    with slow_files() as files:
        loader = sw.open_dataset(f"slow://{root}").loader(
            batch_size=10, world=sw.World(), shuffle="none", on_error="replace", memory_limit_bytes=2**20
        )
        files.broken = "part-00001.parquet"  # samples 25 to 50 of each shard
        seen: list[np.ndarray] = []
        with pytest.raises(StorageError, match=r"can't read slow://.*/part-00001.parquet: the network is gone"):
            seen.extend(batch["label"] for batch in loader)
        assert [label.tolist() for label in seen] == [label.tolist() for label in expected[:10]]
        assert loader.state_dict()["samples_consumed"] == 100
        assert loader.metrics().replaced == 0
        files.broken = None
        seen.extend(batch["label"] for batch in loader)
    assert [label.tolist() for label in seen] == [label.tolist() for label in expected]


def test_where_does_not_take_a_dead_network_for_damage(root):
    with slow_files() as files:
        dataset = sw.open_dataset(f"slow://{root}")
        files.broken = "part-00000.parquet"
        with pytest.raises(StorageError, match="the network is gone"):
            dataset.where("label < 3")


def test_parts_that_are_gone_or_short(root, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/short", recursive=True)
    name = "/short/v000001/train/shard=00002/part-00001.parquet"
    dataset = sw.open_dataset("memory://short", columns=["array", "label"])
    memory.pipe_file(name, memory.cat_file(name)[:9000])
    with pytest.raises(CorruptError, match=r"part-00001.parquet: expected bytes \d+ to \d+, the file ends before that"):
        list(dataset.loader(batch_size=8, world=sw.World(), on_error="replace"))
    memory.rm(name)
    with pytest.raises(CorruptError, match=r"part-00001.parquet is missing"):
        list(dataset.loader(batch_size=8, world=sw.World(), on_error="replace"))
    memory.rm("/short", recursive=True)


def test_a_damaged_value_is_replaced(tmp_path):
    data = values(96)
    data["picture"][5] = b"no picture"
    publish(tmp_path / "d", {"train": data}, SCHEMA, shards=2)
    drawn = []
    with slow_files():
        for url in (str(tmp_path / "d"), f"slow://{tmp_path / 'd'}"):
            loader = sw.open_dataset(url).loader(batch_size=8, world=sw.World(), on_error="replace", epochs=1)
            drawn.append([label for batch in loader for label in batch["label"].tolist()])
            assert loader.metrics().replaced == 1
            with pytest.raises(DecodeError, match="sample 5 of the part can't be decoded"):
                list(sw.open_dataset(url).loader(batch_size=8, world=sw.World()))
    assert drawn[0] == drawn[1]


def fetching():
    return [thread for thread in threading.enumerate() if thread.name.startswith("shardwright-read")]


def test_closing_ends_the_fetching_at_once(plain):
    with slow_files(seconds=0.05) as files:
        loader = sw.open_dataset(f"slow://{plain}").loader(batch_size=64, world=sw.World(), memory_limit_bytes=2**22)
        batches = epoch(loader)
        next(batches)
        before = len(files.asked)
        began = time.monotonic()
        batches.close()
        assert time.monotonic() - began < 0.04  # does not even wait for what is in flight
        wait_until(lambda: not fetching())
        assert len(files.asked) <= before + 8
        for _ in loader:  # a break ends it too
            break
        wait_until(lambda: not fetching())


def test_the_end_of_the_interpreter_does_not_wait_for_what_is_queued(plain):
    script = """
import sys, time
import shardwright as sw
from tests.reader.slow_files import slow_files

with slow_files() as files:
    batches = iter(sw.open_dataset(sys.argv[1]).loader(batch_size=16, world=sw.World()))
    files.seconds = 1.0  # 64 shards, 8 requests at once: 8 s for all
    next(batches)
    print(time.clock_gettime(time.CLOCK_MONOTONIC), len(files.asked), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script, f"slow://{plain}"], capture_output=True, text=True, check=True)
    ended, asked = time.clock_gettime(time.CLOCK_MONOTONIC), done.stdout.split()
    assert not done.stderr
    assert int(asked[1]) < 40
    assert ended - float(asked[0]) < 5


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where a shell started the tests in the background, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_waiting(plain):
    with slow_files(seconds=0.5):
        loader = sw.open_dataset(f"slow://{plain}").loader(batch_size=64, world=sw.World())
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(iter(loader))
        assert time.monotonic() - began < 0.45
        timer.join()
        assert loader.state_dict()["samples_consumed"] == 0


def test_a_forked_child_goes_on_with_threads_of_its_own(plain):
    with slow_files(seconds=0.01):
        dataset = sw.open_dataset(f"slow://{plain}")
        expected = [batch["label"].tolist() for batch in dataset.loader(batch_size=64, world=sw.World())]
        batches = iter(dataset.loader(batch_size=64, world=sw.World()))
        first = next(batches)["label"].tolist()
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            rest = [batch["label"].tolist() for batch in batches]
            os.write(write, b"same" if [first, *rest] == expected else b"other")
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            assert answer.read() == b"same"
        os.waitpid(child, 0)
        assert [first, *(batch["label"].tolist() for batch in batches)] == expected


def test_torch_workers(plain):
    import torch

    class Stream(torch.utils.data.IterableDataset):
        def __init__(self, loader):
            self.loader = loader

        def __iter__(self):
            return iter(self.loader)

    with slow_files():
        dataset = sw.open_dataset(f"slow://{plain}")
        here = [batch["label"].tolist() for batch in dataset.loader(batch_size=64, world=sw.World(), epochs=1)]
        stream = Stream(dataset.loader(batch_size=64, world=sw.World(), epochs=1))
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="fork")
        assert [batch["label"].tolist() for batch in loader] == here


def test_opening_takes_three_requests_and_no_footer(root):
    with slow_files() as files:
        dataset = sw.open_dataset(f"slow://{root}")
        assert [path.rpartition("/")[2] for path, _, _ in files.asked] == ["_LATEST", "_manifest.json", "_index.parquet"]
        dataset.loader(batch_size=8, world=sw.World())
        assert len(files.asked) == 3
        dataset.reading("array", "label")[0]
        assert [path.rpartition("/")[2] for path, _, _ in files.asked[3:]] == ["part-00000.parquet"]
