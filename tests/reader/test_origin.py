"""A node that holds only its own shards, and reads the others from where the dataset lies whole."""

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, WorldError
from tests.datasets import digits, publish
from tests.reader.slow_files import slow_files

SAMPLES = 120


@pytest.fixture
def whole(tmp_path):
    publish(tmp_path / "whole", {"train": digits(SAMPLES)}, shards=3, part_samples=20)
    return tmp_path / "whole"


@pytest.fixture
def node(whole, tmp_path):
    """Shard 1 alone, with the dataset's tree."""
    shutil.copytree(whole, tmp_path / "node")
    for shard in (0, 2):
        shutil.rmtree(tmp_path / "node" / "v000001" / "train" / f"shard={shard:05d}")
    return tmp_path / "node"


def labels(dataset, **options):
    options = {"batch_size": 8, "world": sw.World(), "epochs": 2, "seed": 5} | options
    return [batch["label"].tolist() for batch in dataset.loader(**options)]


def test_missing_parts_come_from_the_origin_and_the_others_do_not(whole, node):
    expected = labels(sw.open_dataset(whole))
    with slow_files() as files:
        dataset = sw.open_dataset(node, origin=f"slow://{whole}")
        files.asked.clear()
        assert labels(dataset) == expected
        assert files.asked
        assert not [path for path, _, _ in files.asked if "shard=00001" in path]
        assert np.array_equal(dataset.take(range(SAMPLES))["image"], digits(SAMPLES)["image"])


def test_an_origin_on_this_machine_is_mapped(whole, node):
    dataset = sw.open_dataset(node, origin=whole)
    assert labels(dataset) == labels(sw.open_dataset(whole))
    assert dataset.source.columns.files.local


def test_the_cache_keeps_what_came_from_the_origin(whole, node, tmp_path):
    with slow_files() as files:
        dataset = sw.open_dataset(node, origin=f"slow://{whole}", cache=tmp_path / "cache")
        expected = labels(dataset)
        end = time.monotonic() + 30
        while [thread for thread in threading.enumerate() if thread.name == "shardwright-cache"]:
            assert time.monotonic() < end
            time.sleep(0.02)
        again = sw.open_dataset(node, origin=f"slow://{whole}", cache=tmp_path / "cache")
        files.asked.clear()
        assert labels(again) == expected
        assert files.asked == []
    assert len([path for path in (tmp_path / "cache").iterdir() if len(path.name) == 64]) == 4


def test_a_rank_whose_shards_are_all_here_maps_them(whole, node):
    with slow_files() as files:
        dataset = sw.open_dataset(node, origin=f"slow://{whole}")
        world = sw.World(rank=1, size=3, node=1, nodes=3)
        files.asked.clear()
        assert labels(dataset, world=world, node_local=True) == labels(sw.open_dataset(whole), world=world)
        assert files.asked == []


def test_node_local_shards_that_do_not_divide_need_an_origin(whole, node):
    world = sw.World(rank=1, size=2, node=1, nodes=2)
    with pytest.raises(WorldError, match=r"3 shards on 2 nodes.*origin=URL\): shards that a node does not hold are read from"):
        sw.open_dataset(node).loader(batch_size=8, world=world, node_local=True)
    with slow_files():
        dataset = sw.open_dataset(node, origin=f"slow://{whole}")
        assert labels(dataset, world=world, node_local=True) == labels(sw.open_dataset(whole), world=world)


def test_another_content_is_refused_with_both_ids(whole, node, tmp_path):
    other = publish(tmp_path / "other", {"train": digits(SAMPLES, seed=1)}, shards=3, part_samples=20)
    mine = sw.open_dataset(whole).manifest
    with pytest.raises(ConfigError, match=rf"content_id {mine.content_id} as at .*found {other.content_id} at"):
        sw.open_dataset(node, origin=tmp_path / "other")
    with slow_files(), pytest.raises(ConfigError, match="it has what is missing at a local path, found slow://"):
        sw.open_dataset(f"slow://{node}", origin=whole)


def test_a_part_that_the_origin_lacks_is_named_there(whole, node):
    shutil.rmtree(whole / "v000001" / "train" / "shard=00002")
    with slow_files():
        dataset = sw.open_dataset(node, origin=f"slow://{whole}")
        with pytest.raises(CorruptError, match=r"whole/v000001/train/shard=00002/part-00001.parquet is missing"):
            dataset.take([SAMPLES - 1])
