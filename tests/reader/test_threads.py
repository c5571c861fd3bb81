"""Batches made ahead by threads: the same ones in the same order, within bounds, and no thread is left however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError, DecodeError
from shardwright.reader.threads import Ahead, Queued
from shardwright.schema import Field, Schema
from tests.datasets import publish

SAMPLES = 120
SCHEMA = Schema(
    fields=(
        Field(name="picture", dtype="uint8", shape=(16, 24, 3), codec="image"),
        Field(name="grey", dtype="uint8", shape=(16, 24, 1), codec="image"),
        Field(name="sized", dtype="uint8", shape=(None, 24, 3), codec="image"),
        Field(name="array", dtype="uint8", shape=(8, 3)),
        Field(name="score", dtype="float32", nullable=True),
        Field(name="label", dtype="int64"),
    )
)


def pictures(*shape: int) -> list[bytes]:
    rng = np.random.default_rng(len(shape))
    return [bytes(imagecodecs.jpeg8_encode(rng.integers(0, 256, shape, np.uint8))) for _ in range(SAMPLES)]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> sw.Dataset:
    folder = tmp_path_factory.mktemp("threads") / "dataset"
    values = {
        "picture": [imagecodecs.png_encode(np.full((16, 24, 3), row, np.uint8)) for row in range(SAMPLES)],
        "grey": pictures(16, 24),
        "sized": pictures(32, 24, 3),
        "array": np.random.default_rng(0).integers(0, 256, (SAMPLES, 8, 3), np.uint8),
        "score": [None if row % 5 == 0 else row / 2 for row in range(SAMPLES)],
        "label": np.arange(SAMPLES),
    }
    publish(folder, {"train": values}, SCHEMA, shards=4, part_samples=20, row_group_samples=7, standardise=("picture", "array"))
    return sw.open_dataset(folder, split="train")


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    assert list(ours) == list(theirs)
    pairs = [(ours[name], theirs[name]) for name in ours]
    return all(
        all(map(np.array_equal, one, two)) if one.dtype == object else np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
        for one, two in pairs
    )


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("shardwright")]


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, ours()
        time.sleep(0.01)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_the_same_batches_as_without(train: sw.Dataset, threads: int | None, normalise: bool) -> None:
    options: dict[str, Any] = {"batch_size": 7, "world": sw.World(1, 2), "last": "pad", "normalise": normalise}
    alone, many = train.loader(**options, threads=0), train.loader(**options, threads=threads)
    for _ in range(2):
        for ours, theirs in zip(many, alone, strict=True):
            assert same(ours, theirs)
            assert many.state_dict() == alone.state_dict()
    assert many.metrics().samples == alone.metrics().samples
    assert many.metrics().bytes == alone.metrics().bytes


def test_normalised_as_by_hand(train: sw.Dataset) -> None:
    statistics = train.statistics["picture"]
    raw, made = (next(iter(train.loader(batch_size=30, normalise=normalise, threads=2))) for normalise in (False, ["picture"]))
    mean, scale = np.asarray(statistics.mean, np.float32), 1 / np.asarray(statistics.std, np.float64)
    assert np.array_equal(made["picture"], (raw["picture"].astype(np.float32) - mean) * scale.astype(np.float32))


def test_gathered_columns_need_no_threads(train: sw.Dataset) -> None:
    wait_until(lambda: not ours())  # of other tests
    batches = iter(train.reading("array", "label").loader(batch_size=8))
    next(batches)
    assert not ours()
    batches = iter(train.loader(batch_size=8))
    next(batches)
    assert ours()
    del batches
    wait_until(lambda: not ours())


def test_no_more_is_made_than_has_room(train: sw.Dataset) -> None:
    made = []

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        made.append(len(batch["label"]))
        return batch

    batches = iter(train.loader(batch_size=2, transform=transform))
    next(batches)
    wait_until(lambda: len(made) >= 9)
    time.sleep(0.1)
    assert len(made) <= 10  # one was taken, eight wait, one has no room
    made.clear()
    batches = iter(train.loader(batch_size=2, transform=transform, memory_limit_bytes=8))
    next(batches)
    wait_until(lambda: len(made) >= 3)
    time.sleep(0.1)
    assert len(made) <= 3


def test_an_exception_in_the_transform_comes_at_its_batch(train: sw.Dataset) -> None:
    count = iter(range(100))

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        if next(count) == 3:
            raise ValueError("the fourth batch")
        return batch

    loader = train.loader(batch_size=10, transform=transform)
    seen: list[np.ndarray] = []
    with pytest.raises(ValueError, match="the fourth batch"):
        seen.extend(batch["label"] for batch in loader)
    assert len(seen) == 3
    assert loader.state_dict()["samples_consumed"] == 30
    wait_until(lambda: not ours())
    seen.extend(batch["label"] for batch in loader)  # goes on with the batch that failed
    assert sorted(np.concatenate(seen).tolist()) == list(range(SAMPLES))


def test_a_damaged_picture_comes_at_its_batch(tmp_path: Path) -> None:
    given = pictures(16, 24, 3)
    given[70] = given[70][:40]
    values = {"picture": given, "label": np.arange(SAMPLES)}
    schema = Schema(fields=(Field(name="picture", dtype="uint8", shape=(16, 24, 3), codec="image"), SCHEMA["label"]))
    publish(tmp_path / "d", {"train": values}, schema, shards=1, part_samples=SAMPLES)
    dataset = sw.open_dataset(tmp_path / "d")
    seen: list[int] = []
    with pytest.raises(DecodeError, match=r"part-00000\.parquet: sample 70 of the part can't be decoded"):
        seen.extend(int(label) for batch in dataset.loader(batch_size=8, shuffle="none", threads=2) for label in batch["label"])
    assert seen == list(range(64))
    loaders = [dataset.loader(batch_size=8, seed=1, threads=threads, on_error="replace") for threads in (0, 2)]
    assert all(same(*batches) for batches in zip(*loaders, strict=True))
    assert [loader.metrics().replaced for loader in loaders] == [1, 1]


def test_two_loaders_and_two_epochs_at_once(train: sw.Dataset) -> None:
    one, two = train.loader(batch_size=10, seed=1, threads=2), train.loader(batch_size=10, seed=2, threads=2)
    labels: list[list[int]] = [[], []]
    for first, second in zip(one, two, strict=True):
        labels[0].extend(first["label"].tolist())
        labels[1].extend(second["label"].tolist())
    assert sorted(labels[0]) == sorted(labels[1]) == list(range(SAMPLES))
    assert labels[0] != labels[1]


@pytest.mark.parametrize("what", ["ctrl-c", "end"])
def test_the_process_ends_at_once(train: sw.Dataset, what: str) -> None:
    script = f"""
import signal, sys, time
import shardwright as sw
signal.signal(signal.SIGINT, signal.default_int_handler)
batches = iter(sw.open_dataset({train.source.url!r}, split="train").loader(batch_size=4, threads=2))
next(batches)
print("begun", flush=True)
{"time.sleep(60)" if what == "ctrl-c" else ""}
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    if what == "ctrl-c":
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == (-signal.SIGINT if what == "ctrl-c" else 0), said
    assert ("KeyboardInterrupt" in said) == (what == "ctrl-c"), said
    assert "shardwright-" not in said


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process(train: sw.Dataset, method: str) -> None:
    """A loader that is iterated goes on in a forked child; one that is sent begins there."""
    if method == "fork" and not sys.platform.startswith("linux"):
        pytest.skip("fork is what Linux starts processes with")
    loader = train.loader(batch_size=10, threads=2)
    expected = [batch["label"].tolist() for batch in train.loader(batch_size=10, threads=0)]
    if method == "spawn":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(labels_of, (train,)) == expected
        return
    batches = iter(loader)
    next(batches)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, repr([batch["label"].tolist() for batch in batches]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == repr(expected[1:])
    assert os.waitpid(pid, 0)[1] == 0
    assert [batch["label"].tolist() for batch in batches] == expected[1:]


def labels_of(dataset: sw.Dataset) -> list[list[int]]:
    return [batch["label"].tolist() for batch in dataset.loader(batch_size=10, world=sw.World(), threads=2)]


def test_threads_are_checked(train: sw.Dataset) -> None:
    with pytest.raises(ConfigError, match="threads: expected at least 0, found -1"):
        train.loader(batch_size=1, threads=-1)


class Thing:
    def __init__(self, number: int, nbytes: int = 1) -> None:
        self.number, self.nbytes = number, nbytes


def test_what_is_made_ahead_is_bounded_in_bytes() -> None:
    made: list[int] = []

    def make(first: int) -> Generator[Thing]:
        for number in range(first, 100):
            made.append(number)
            yield Thing(number, nbytes=40)

    with Ahead(make, limit=100, most=50, queued=Queued()) as ahead:
        wait_until(lambda: len(made) == 3)  # two have room, the third waits
        time.sleep(0.05)
        assert len(made) == 3
        assert [thing.number for thing in ahead] == list(range(100))
    with Ahead(make, limit=1, most=50, queued=Queued()) as ahead:
        assert next(ahead).number == 0  # one always has
