"""Memory of batches is used again, never while anybody can still see it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch

import shardwright as sw
import shardwright.torch as swt
from shardwright.reader.buffers import Buffers
from shardwright.schema import Field, Schema
from tests.datasets import publish

SAMPLES = 240


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> sw.Dataset:
    """Pictures and arrays that say which sample they are."""
    fields = (
        Field(name="picture", dtype="uint8", shape=(8, 8), codec="image"),
        Field(name="array", dtype="uint8", shape=(16,)),
        Field(name="label", dtype="int64"),
    )
    values: dict[str, Any] = {
        "picture": [bytes(imagecodecs.png_encode(np.full((8, 8), row, np.uint8))) for row in range(SAMPLES)],
        "array": np.repeat(np.arange(SAMPLES, dtype=np.uint8)[:, None], 16, axis=1),
        "label": np.arange(SAMPLES),
    }
    folder: Path = tmp_path_factory.mktemp("buffers") / "dataset"
    publish(folder, {"train": values}, Schema(fields=fields), shards=3)
    return sw.open_dataset(folder, split="train")


def right(batch: dict[str, Any]) -> bool:
    label = np.asarray(batch["label"])
    return all((np.asarray(batch[name]).reshape(len(label), -1) == label[:, None]).all() for name in ("picture", "array"))


@pytest.mark.parametrize("threads", [0, 2])
def test_the_memory_of_a_batch_that_was_let_go_is_used_again(train: sw.Dataset, threads: int) -> None:
    places = set()
    for batch in train.loader(batch_size=8, world=sw.World(), threads=threads):
        assert right(batch)
        places.add(batch["picture"].ctypes.data)
    assert len(places) < 14  # of 30 batches: what waits, is made, and is here


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("hold", ["batch", "row", "memoryview", "tensor", "flat"])
def test_what_is_held_stays_as_it_is(train: sw.Dataset, threads: int, hold: str) -> None:
    """Whichever way it is held, and however late it is looked at."""
    ways: dict[str, Any] = {
        "batch": lambda picture: picture,
        "row": lambda picture: picture[3:],
        "memoryview": memoryview,
        "tensor": torch.from_numpy,
        "flat": lambda picture: picture.reshape(-1)[::2],
    }
    held = []
    for number, batch in enumerate(train.loader(batch_size=8, world=sw.World(), threads=threads, normalise={"array": (0, 1)})):
        if number % 3:
            held.append((ways[hold](batch["picture"]), batch["array"][2:], batch["picture"].copy(), batch["label"].copy()))
    gc.collect()
    for seen, array, copied, label in held:
        np.testing.assert_array_equal(np.asarray(seen), ways[hold](copied))
        np.testing.assert_array_equal(array, np.repeat(label[2:, None], 16, axis=1))


def test_tensors_that_are_held_stay_as_they_are(train: sw.Dataset) -> None:
    batches = list(swt.loader(train, 8, world=sw.World(), threads=2))
    assert len(batches) == 30
    assert all(right(batch) for batch in batches)


def test_arrays_are_kept_up_to_the_limit_and_a_few_beside() -> None:
    buffers = Buffers(1000)
    given = [buffers.empty("a", (100,), np.uint8) for _ in range(20)]
    places = {array.ctypes.data for array in given}
    assert len(places) == 20
    del given
    again = [buffers.empty("a", (100,), np.uint8) for _ in range(14)]
    assert {array.ctypes.data for array in again} <= places
    large = [buffers.empty("b", (5000,), np.uint8) for _ in range(9)]
    first = large[0].ctypes.data
    del large, again
    assert [buffers.empty("b", (5000,), np.uint8).ctypes.data for _ in range(3)] == [first] * 3
    assert buffers.empty("b", (50, 100), np.uint8).shape == (50, 100)
    assert buffers.empty("b", (5000,), np.float32).dtype == np.float32
    buffers.trim()
    assert sum(array.nbytes for kept in buffers._kept.values() for array in kept) <= 1000
