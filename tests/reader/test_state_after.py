"""The state after a number of batches is the one that the loader would have come to, for trainers that count their steps."""

from __future__ import annotations

from pathlib import Path

import pytest

import shardwright as sw
from tests.datasets import digits, publish


@pytest.mark.parametrize("last", ["short", "drop", "pad"])
@pytest.mark.parametrize("size", [1, 3])
def test_it_is_where_iterating_leads(tmp_path: Path, last, size: int) -> None:
    publish(tmp_path / "d", {"train": digits(50)}, shards=1)
    train = sw.open_dataset(str(tmp_path / "d"), columns=["label"])
    for begin in (0, 2 * 8 * size, 50 - 50 % (8 * size)):
        loader = train.loader(batch_size=8, world=sw.World(0, size), last=last)
        loader.load_state_dict(loader.state_at(begin, epoch=2))
        start = loader.state_dict()
        asked = train.loader(batch_size=8, world=sw.World(0, size), last=last)
        asked.load_state_dict(start)
        wanted = [start]
        for _ in range(3):
            wanted += [loader.state_dict() for _ in loader]
        assert [asked.state_after(batches) for batches in range(len(wanted))] == wanted
        assert asked.state_dict() == start, "nothing moved"
