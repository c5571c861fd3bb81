"""The order of an epoch: a permutation, the same from wherever one starts, for ever the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import CorruptError
from shardwright.order import EpochOrder, Plan
from tests.order.strategies import plans


def walk(plan: Plan, epoch: int) -> list[tuple[int, int]]:
    places, numbers = EpochOrder(plan, epoch)(np.arange(plan.total))
    return list(zip(places.tolist(), numbers.tolist(), strict=True))


@given(plans(), st.integers(0, 3))
def test_every_sample_once_and_shards_in_turn(plan, epoch):
    found = walk(plan, epoch)
    assert sorted(found) == [(place, n) for place, size in enumerate(plan.samples) for n in range(size)]
    assert [place for place, _ in found] == [g % len(plan.shards) for g in range(plan.total)]


@given(plans(), st.data())
def test_starting_anywhere_equals_walking_there(plan, data):
    found = walk(plan, 1)
    start = data.draw(st.integers(0, plan.total))
    step = data.draw(st.integers(1, 5))
    positions = np.arange(start, plan.total, step)
    places, numbers = EpochOrder(plan, 1)(positions)
    assert list(zip(places.tolist(), numbers.tolist(), strict=True)) == found[start::step]


@given(plans())
def test_window_takes_blocks_by_the_group(plan):
    """A group of `window_blocks` blocks of a shard is done before another block begins."""
    window = Plan(**{**vars(plan), "shuffle": "window"})
    found = walk(window, 0)
    for place, samples in enumerate(window.samples):
        left = Counter(n // plan.block_samples for n in range(samples))
        group: set[int] = set()
        for block in (n // plan.block_samples for p, n in found if p == place):
            if block not in group and len(group) == plan.window_blocks:
                assert not any(left[other] for other in group)
                group = set()
            group.add(block)
            left[block] -= 1


def test_golden():
    """A change here breaks every checkpoint: never edit these numbers."""
    plan = Plan(content_id="0" * 64, seed=7, shuffle="window", shards=(0, 1), samples=(8, 7), block_samples=3, window_blocks=2)
    assert walk(plan, 2) == GOLDEN_WINDOW
    assert walk(Plan(**{**vars(plan), "shuffle": "global"}), 2) == GOLDEN_GLOBAL
    assert walk(Plan(**{**vars(plan), "shuffle": "none"}), 2) == [(g % 2, g // 2) for g in range(15)]


@given(plans(), st.integers(0, 3), st.data())
def test_substitutes_lie_in_the_shard_of_their_position(plan, epoch, data):
    position = data.draw(st.integers(0, plan.total - 1))
    found = plan.substitutes(epoch, position, 16)
    assert (found % len(plan.shards) == position % len(plan.shards)).all()
    assert ((found >= 0) & (found < plan.total)).all()
    assert np.array_equal(found[:5], plan.substitutes(epoch, position, 5))


def test_golden_substitutes():
    """A change here changes what a resumed epoch sees: never edit these numbers."""
    plan = Plan(content_id="0" * 64, seed=7, shuffle="none", shards=(0, 1), samples=(8, 7), block_samples=3, window_blocks=2)
    assert [plan.substitutes(2, position, 4).tolist() for position in (0, 1, 14)] == GOLDEN_SUBSTITUTES


@pytest.mark.parametrize("change", [{"seed": 8}, {"content_id": "1" * 64}])
def test_seed_content_and_epoch_each_change_the_order(change):
    plan = Plan(content_id="0" * 64, seed=7, shuffle="global", shards=(0,), samples=(50,), block_samples=3, window_blocks=2)
    assert walk(plan, 0) != walk(Plan(**{**vars(plan), **change}), 0)
    assert walk(plan, 0) != walk(plan, 1)


@pytest.mark.parametrize("samples", [(5, 3), (4, 5)])
def test_unbalanced_shards_are_refused(samples):
    with pytest.raises(CorruptError, match="expected equal ones, or the first ones larger by 1"):
        Plan(content_id="", seed=0, shuffle="none", shards=(0, 1), samples=samples, block_samples=1, window_blocks=1)


GOLDEN_WINDOW = [
    (0, 6),
    (1, 3),
    (0, 3),
    (1, 0),
    (0, 4),
    (1, 1),
    (0, 5),
    (1, 5),
    (0, 7),
    (1, 4),
    (0, 2),
    (1, 2),
    (0, 1),
    (1, 6),
    (0, 0),
]
GOLDEN_GLOBAL = [
    (0, 7),
    (1, 5),
    (0, 2),
    (1, 2),
    (0, 5),
    (1, 6),
    (0, 1),
    (1, 1),
    (0, 6),
    (1, 3),
    (0, 0),
    (1, 4),
    (0, 3),
    (1, 0),
    (0, 4),
]
GOLDEN_SUBSTITUTES = [[2, 0, 8, 2], [13, 9, 5, 9], [2, 8, 2, 10]]
