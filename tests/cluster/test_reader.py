"""Epochs over HDFS: the same as over local files, also while daemons die, and by WebHDFS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import shardwright as sw
from shardwright.order import Shuffle
from shardwright.schema import Field, Schema
from tests.cluster.datasets import put
from tests.cluster.hdfs import Hdfs
from tests.datasets import publish

SCHEMA = Schema(
    fields=(
        Field(name="array", dtype="uint8", shape=(64, 64)),
        Field(name="label", dtype="int64"),
        Field(name="text", dtype="string"),
    )
)
SAMPLES = 2400


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 MB in 4 shards of 3 parts."""
    folder = tmp_path_factory.mktemp("reader") / "dataset"
    rng = np.random.default_rng(0)
    data = {
        "array": rng.integers(0, 256, (SAMPLES, 64, 64), np.uint8),
        "label": np.arange(SAMPLES),
        "text": [f"sample {row}" for row in range(SAMPLES)],
    }
    publish(folder, {"train": data}, SCHEMA, part_samples=200, row_group_samples=50, block_samples=16)
    return folder


def upload(folder: Path, url: str) -> str:
    """`url`, where a copy of the dataset lies now."""
    put(folder, url)
    return url


def same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert list(ours) == list(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("shuffle", ["none", "window", "global"])
def test_the_same_epoch_as_local(root: Path, hdfs: Hdfs, shuffle: Shuffle) -> None:
    far = sw.open_dataset(upload(root, hdfs.new_folder()))
    for world, limit in ((sw.World(), 2**30), (sw.World(1, 3), 2**22)):
        near = sw.open_dataset(str(root)).loader(batch_size=32, world=world, shuffle=shuffle)
        loader = far.loader(batch_size=32, world=world, shuffle=shuffle, memory_limit_bytes=limit)
        for ours, theirs in zip(near, loader, strict=True):
            same(ours, theirs)
    assert len(far.where("label < 100")) == 100


def test_webhdfs_is_the_fallback(root: Path, hdfs: Hdfs) -> None:
    url = upload(root, hdfs.new_folder())
    far = sw.open_dataset(url.replace(hdfs.url, hdfs.webhdfs))
    near = sw.open_dataset(str(root)).loader(batch_size=64, world=sw.World())
    loader = far.loader(batch_size=64, world=sw.World(), epochs=1)
    for ours, theirs in zip(near, loader, strict=True):
        same(ours, theirs)
    assert loader.metrics().requests < 100  # each takes tens of milliseconds


@pytest.mark.parametrize("fault", ["datanode", "namenode"])
def test_an_epoch_goes_on_when_a_daemon_dies(root: Path, mended: Hdfs, fault: str) -> None:
    """Each sample comes once, in the order of an undisturbed epoch. A tight limit leaves most of it to be read afterwards."""
    expected = [batch["label"].tolist() for batch in sw.open_dataset(str(root)).loader(batch_size=32, world=sw.World())]
    loader = sw.open_dataset(upload(root, mended.new_folder())).loader(
        batch_size=32, world=sw.World(), memory_limit_bytes=2**21
    )
    found = []
    for number, batch in enumerate(loader):
        found.append(batch["label"].tolist())
        if number == 10 and fault == "datanode":
            mended.kill_datanode(1)
        if number == 10 and fault == "namenode":
            mended.restart_namenode()
    assert found == expected
