"""Functions such as a team would write for `[[map]]`, good and bad ones."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Batch = dict[str, Any]

NOT_A_FUNCTION = 7


def double(batch: Batch, *, by: float = 2.0) -> Batch:
    return {"x": batch["x"] * by}


def add_fields(batch: Batch) -> Batch:
    count = len(batch["x"])
    ragged = np.empty(count, object)
    ragged[:] = [np.arange(int(n) % 3 + 1, dtype=np.int16) for n in batch["number"]]
    return {
        "vector": np.stack([batch["x"], batch["x"] + 1], axis=1), "ragged": ragged,
        "word": np.array([f"w{n}" for n in batch["number"]], object), "flag": batch["number"] % 2 == 0,
        "time": np.full(count, "2026-01-02", "M8[D]"),
    }  # fmt: skip


def everything_back(batch: Batch) -> Batch:
    batch["x"] += 1
    return batch


def fail_on(batch: Batch, *, number: int) -> Batch:
    for value in batch["number"].tolist():
        check(value, number)
    return {}


def check(value: int, number: int) -> None:
    if value == number:
        raise ValueError(f"can't take {value}")


def keep_and_reject(batch: Batch) -> Batch:
    odd = batch["number"] % 2 == 1
    return {"_keep": ~odd, "_reject": np.array(["a zero" if n == 0 else None for n in batch["number"]], object)}


def by_key(batch: Batch, keys: Any) -> Batch:
    assert keys.shape == (len(batch["x"]), 16)
    return {"x": keys[:, 0].astype(np.float32)}


def returns(batch: Batch, *, what: str) -> Any:
    count = len(batch["x"])
    return {
        "a list": {"x": [1.0] * count},
        "rows": {"x": np.zeros(count + 1, np.float32)},
        "shape": {"x": np.zeros((count, 2), np.float32)},
        "strings": {"x": np.array(["a"] * count, object)},
        "infinity": {"x": np.full(count, np.inf, np.float32)},
        "unknown": {"y": np.zeros(count)},
        "nothing": None,
        "numbers as words": {"word": np.array([1] * count, object)},
        "flags": {"_keep": np.ones(count, np.int8)},
        "reasons": {"_reject": np.array([3] * count, object)},
        "fraction": {"number": batch["number"] + 0.5},
        "empty dict": {},
    }[what]


def leave(batch: Batch) -> Batch:
    sys.exit("enough")


def brightness(batch: Batch) -> Batch:
    assert not batch["image"][0].flags.writeable
    return {**batch, "mean": np.array([image.mean() for image in batch["image"]], np.float32)}


def missing_values(batch: Batch) -> Batch:
    mask = batch["maybe_mask"].copy()
    assert (np.isnan(batch["maybe"]) == mask).all()
    mask[batch["number"] == 2] = True
    return {"maybe": batch["maybe"] * 10, "maybe_mask": mask, "name": batch["name"][::1]}
