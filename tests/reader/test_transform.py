"""What a transform may make of a batch, and how a mistake in it is told: what was expected, what came, of which column."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError

Batch = dict[str, Any]


def nothing(batch: Batch) -> Any:
    batch["label"] += 1


def values_alone(batch: Batch) -> Any:
    return tuple(batch.values())


def no_column(batch: Batch) -> Any:
    return {}


def fewer(batch: Batch) -> Any:
    return {name: values[batch["label"] < 100] for name, values in batch.items()}


def one_shorter(batch: Batch) -> Any:
    return {**batch, "label": batch["label"][1:]}


def a_mean(batch: Batch) -> Any:
    return {**batch, "mean": batch["image"].mean()}


def no_axis(batch: Batch) -> Any:
    return {**batch, "mean": np.array(3.0)}


def a_list(batch: Batch) -> Any:
    return {**batch, "names": ["x"] * len(batch["label"])}


def numbered(batch: Batch) -> Any:
    return {0: batch["image"], "label": batch["label"]}


WRONG = [
    (nothing, "expected the batch, found None; return it, also when it was changed in place"),
    (values_alone, "expected the batch, a dict of NumPy arrays, found tuple"),
    (no_column, "expected a batch with at least one column, found none"),
    (fewer, r"column 'image': expected 40 samples, one in each row, found shape \(\d+, 8, 8\); to leave samples out, say"),
    (one_shorter, r"column 'label': expected 40 samples, one in each row, found shape \(39,\)"),
    (a_mean, "column 'mean': expected a NumPy array of 40 samples, found numpy.float64"),
    (no_axis, r"column 'mean': expected 40 samples, one in each row, found shape \(\)"),
    (a_list, "column 'names': expected a NumPy array of 40 samples, found list"),
    (numbered, "expected names of columns, found 0"),
]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("transform, message", WRONG)
def test_what_a_transform_may_not_give(small: Any, threads: int, transform: Callable, message: str) -> None:
    loader = sw.open_dataset(small, split="train").loader(batch_size=40, transform=transform, threads=threads)
    with pytest.raises(ConfigError, match=f"transform {transform.__name__}: {message}"):
        next(iter(loader))
    assert loader.state_dict()["samples_consumed"] == 0


def test_both_columns_are_named(small: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        next(iter(sw.open_dataset(small, split="train").loader(batch_size=150, transform=fewer)))
    assert [problem.split(": ")[:2] for problem in caught.value.problems] == [
        ["transform fewer", "column 'image'"], ["transform fewer", "column 'label'"]
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [0, 2])
def test_columns_may_come_go_and_change(small: Any, threads: int) -> None:
    def transform(batch: Batch) -> Batch:
        image = batch["image"].astype(np.float32).reshape(-1, 1, 64)[:, :, ::2]
        return {"image": image, "odd": batch["label"] % 2 == 1, "name": batch["label"].astype(str)}

    loader = sw.open_dataset(small, split="train").loader(batch_size=48, transform=transform, threads=threads)
    batches = list(loader)
    assert [batch["image"].shape for batch in batches] == [(48, 1, 32)] * 4 + [(8, 1, 32)]
    assert {*np.concatenate([batch["name"] for batch in batches])} == set(map(str, range(200)))


@pytest.mark.parametrize("threads", [0, 2])
def test_the_trace_shows_the_line_of_an_exception(small: Any, threads: int) -> None:
    def transform(batch: Batch) -> Batch:
        return {**batch, "wrong": batch["image"] @ batch["label"]}

    with pytest.raises(ValueError, match="matmul") as caught:
        list(sw.open_dataset(small, split="train").loader(batch_size=40, transform=transform, threads=threads))
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.line) == (__file__, 'return {**batch, "wrong": batch["image"] @ batch["label"]}')


def test_batches_that_a_transform_makes_larger_wait_within_the_limit(small: Any) -> None:
    """Of 20 samples decoded 1440 bytes, transformed 20 times as many: no two have room."""
    made = []

    def transform(batch: Batch) -> Batch:
        made.append(len(batch["label"]))
        return {**batch, "large": np.zeros((20, 20 * 72), np.uint8)}

    loader = sw.open_dataset(small, split="train").loader(
        batch_size=20, transform=transform, threads=1, memory_limit_bytes=8 * 40_000
    )
    batches = iter(loader)
    next(batches)
    deadline = time.monotonic() + 10
    while len(made) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 3  # one was taken, one waits, one has no room
    assert loader.metrics().bytes == 20 * 72
