"""Datasets opened and left a thousand times, however the loop ends: no thread, descriptor, map or memory stays behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.schema import Field, Schema
from tests.datasets import publish

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="counts by Linux's /proc")
SAMPLES = 32
SCHEMA = Schema(
    fields=(
        Field(name="picture", dtype="uint8", shape=(16, 24, 3), codec="image"),
        Field(name="array", dtype="uint8", shape=(8, 3)),
        Field(name="text", dtype="string"),
        Field(name="label", dtype="int64"),
    )
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("leaks") / "dataset"
    values = {
        "picture": [imagecodecs.jpeg8_encode(np.full((16, 24, 3), row, np.uint8)) for row in range(SAMPLES)],
        "array": np.zeros((SAMPLES, 8, 3), np.uint8),
        "text": [str(row) for row in range(SAMPLES)],
        "label": np.arange(SAMPLES),
    }
    publish(folder, {"train": values}, SCHEMA, shards=4, part_samples=4, row_group_samples=2)
    return str(folder)


class BrokenError(Exception):
    pass


def broken(batch: dict[str, Any]) -> dict[str, Any]:
    raise BrokenError


def exhausted(loader: sw.Loader) -> None:
    assert sum(len(batch["label"]) for batch in loader) == SAMPLES


def left(loader: sw.Loader) -> None:
    for number, _ in enumerate(loader):
        if number == 1:
            break


def closed(loader: sw.Loader) -> None:
    batches: Iterator[Any] = iter(loader)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator


def dropped(loader: sw.Loader) -> None:
    next(iter(loader))


def failed(loader: sw.Loader) -> None:
    with pytest.raises(BrokenError):
        next(iter(loader.dataset.loader(batch_size=8, world=sw.World(), transform=broken, threads=loader.options.threads)))


ENDS: tuple[Callable[[sw.Loader], None], ...] = (exhausted, left, closed, dropped, failed)


def cycles(url: str, count: int) -> None:
    """Each opens the dataset, reads by 0 to 2 threads, and ends in its turn."""
    for number in range(count):
        loader = sw.open_dataset(url).loader(batch_size=8, world=sw.World(), threads=number % 3, seed=number)
        ENDS[number % len(ENDS)](loader)


def held(url: str) -> dict[str, int]:
    """What this process holds, of the dataset at `url` and at all, when the threads that are ending have ended."""
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("shardwright") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return {
        "threads": threading.active_count(), "descriptors": len(os.listdir("/proc/self/fd")),
        "maps of parts": maps.count(f"{url}/"), "maps": maps.count("\n"),
    }  # fmt: skip


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_datasets_opened_and_left(url: str) -> None:
    cycles(url, 100)  # what is imported and kept once, and what allocators hold on to
    before, resident = held(url), resident_bytes()
    cycles(url, 1000)
    after = held(url)
    assert after["maps of parts"] == before["maps of parts"] == 0
    assert after["threads"] <= before["threads"]
    assert after["descriptors"] <= before["descriptors"]
    assert after["maps"] <= before["maps"] + 20  # the allocators' own
    assert resident_bytes() - resident < 16 * 2**20  # 16 KiB a cycle
