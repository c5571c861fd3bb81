"""A dataset that is published again, or whose version is deleted, while it is read."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import shardwright as sw
from shardwright.cli import main
from shardwright.errors import CorruptError
from tests.datasets import digits, publish
from tests.reader.slow_files import slow_files

DELETED = r"is missing; v000001 was deleted while it was open \(shardwright expire\?\): open the dataset again for its latest"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish(tmp_path / "d", {"train": digits(200)}, part_samples=25)
    return tmp_path / "d"


def publish_again(root: Path) -> None:
    publish(root, {"train": digits(200, seed=1)}, part_samples=25, version="v000002")


def expire(root: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["expire", str(root), "--keep", "1", "--yes"])
    assert ended.value.code == 0
    assert not (root / "v000001").exists()


def test_an_epoch_goes_on_with_the_version_that_was_opened(root: Path) -> None:
    expected = [batch["image"] for batch in sw.open_dataset(root).loader(batch_size=16)]
    loader = sw.open_dataset(root).loader(batch_size=16)
    found = [next(iter(loader))["image"]]
    publish_again(root)
    found += [batch["image"] for batch in loader]
    assert all(map(np.array_equal, found, expected))
    assert sw.open_dataset(root).source.version == "v000002"


@pytest.mark.parametrize("threads", [0, 2])
def test_a_deleted_version_is_readable_where_it_was_read_and_said_so_where_not(root: Path, threads: int) -> None:
    whole, begun = sw.open_dataset(root), sw.open_dataset(root)
    loader = whole.loader(batch_size=16, threads=threads)
    expected = [batch["label"].tolist() for batch in whole.loader(batch_size=16)]
    batches = iter(loader)
    found = [next(batches)["label"].tolist()]
    assert begun[0]["label"] == 0
    publish_again(root)
    expire(root)
    assert found + [batch["label"].tolist() for batch in batches] == expected
    assert begun[1]["label"] == 1
    with pytest.raises(CorruptError, match=rf"{root}/v000001/train/.*part-00001.parquet {DELETED}"):
        list(begun.loader(batch_size=16, threads=threads))


def test_a_deleted_remote_version(root: Path, tmp_path: Path) -> None:
    with slow_files():
        plain = sw.open_dataset(f"slow://{root}")
        cached = sw.open_dataset(f"slow://{root}", cache=tmp_path / "cache")
        node = sw.open_dataset(
            shutil.copytree(root / "v000001", tmp_path / "n" / "v000001").parent, version="v000001", origin=root
        )
        shutil.rmtree(tmp_path / "n" / "v000001" / "train" / "shard=00003")
        expected = cached.take(range(200))["label"]
        deadline = time.monotonic() + 30
        while any(thread.name == "shardwright-cache" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        publish_again(root)
        expire(root)
        assert np.array_equal(cached.take(range(200))["label"], expected), "the cache keeps what is open"
        with pytest.raises(CorruptError, match=rf"slow://{root}/v000001/.* {DELETED}"):
            plain.take([0])
        with pytest.raises(CorruptError, match=rf"{root}/v000001/train/shard=00003/.* {DELETED}"):
            node.take([199])
