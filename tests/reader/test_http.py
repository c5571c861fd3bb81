"""A dataset on a web server: the same batches as from the local disk, in few requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import shardwright as sw
import shardwright.torch as swt
from shardwright.errors import CorruptError, DatasetNotFoundError, StorageError
from shardwright.order import Shuffle
from tests.datasets import digits, publish
from tests.reader.range_server import serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish(tmp_path / "digits", {"train": digits(200)}, part_samples=25, standardise=["image"])
    return tmp_path / "digits"


@pytest.fixture
def url(root: Path) -> Iterator[str]:
    with serving(root.parent) as server:
        yield f"{server}/{root.name}"


def no_threads() -> None:
    deadline = time.monotonic() + 30
    while left := [thread for thread in threading.enumerate() if thread.name.startswith("shardwright")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("shuffle", ["none", "window", "global"])
def test_the_same_batches(root: Path, url: str, tmp_path: Path, shuffle: Shuffle, cached: bool) -> None:
    near = sw.open_dataset(root).loader(batch_size=16, shuffle=shuffle, normalise=True)
    far = sw.open_dataset(url, cache=tmp_path / "cache" if cached else None).loader(
        batch_size=16, shuffle=shuffle, normalise=True
    )
    for _ in range(2):
        for ours, theirs in zip(far, near, strict=True):
            assert np.array_equal(ours["image"], theirs["image"])
            assert np.array_equal(ours["label"], theirs["label"])
        no_threads()
    assert far.state_dict() == near.state_dict()


def test_where_and_workers(url: str) -> None:
    train = sw.open_dataset(url)
    assert train.where("label in [3, 150]").take([0, 1])["label"].tolist() == [3, 150]
    data = swt.batches(train, 16)
    loader = DataLoader(data, sampler=data.sampler, batch_size=None, num_workers=2)
    assert sorted(label for batch in loader for label in batch["label"].tolist()) == list(range(200))


def test_what_is_not_there(root: Path, url: str) -> None:
    with pytest.raises(
        DatasetNotFoundError, match=r"no dataset at http://127\.0\.0\.1:.*/digit: expected the directory that holds"
    ):
        sw.open_dataset(url.removesuffix("s"))
    train = sw.open_dataset(url)
    (root / "v000001/train/shard=00003/part-00001.parquet").unlink()
    with pytest.raises(CorruptError, match=r"shard=00003/part-00001.parquet is missing; copy it there again"):
        train.take([199])
    (root / "v000001").rename(root / "elsewhere")
    with pytest.raises(CorruptError, match=r"part-00000.parquet is missing; v000001 was deleted while it was open"):
        train.take([0])


def test_a_server_that_is_gone(root: Path) -> None:
    with serving(root) as url:
        train = sw.open_dataset(url)
    with pytest.raises(StorageError, match=rf"can't read {url}/v000001/train/shard=.*127\.0\.0\.1"):
        train.take([0])
