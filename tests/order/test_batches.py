"""Who takes what: every rank the same number of batches, every position once, whatever happens in between."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shardwright.order import Batches, World
from tests.order.strategies import worlds


def serve(ranks, total, consumed, batch_size, last, stop=None):
    """What all ranks take of an epoch's rest, up to `stop` batches: [(position, repeated)], and samples consumed then."""
    each = [Batches(world=w, batch_size=batch_size, total=total, consumed=consumed, last=last, wrap=total) for w in ranks]
    counts = {len(batches) for batches in each}
    assert len(counts) == 1, "every rank has the same number of batches"
    count = counts.pop() if stop is None else min(stop, counts.pop())
    out, after = [], consumed
    for batch in range(count):
        sizes = set()
        for batches in each:
            positions, padded = batches.positions(batch * batch_size, (batch + 1) * batch_size)
            assert (np.diff(positions) > 0).all() or padded is not None
            sizes.add(len(positions))
            flags = np.zeros(len(positions), bool) if padded is None else padded
            out += list(zip(positions.tolist(), flags.tolist(), strict=True))
        assert len(sizes) == 1, "and of the same sizes"
        ends = {batches.consumed_after(batch) for batches in each}
        assert len(ends) == 1
        after = ends.pop()
    return out, after


@given(worlds(), st.integers(0, 200), st.integers(1, 9), st.sampled_from(["short", "drop", "pad"]))
def test_an_epoch(ranks, total, batch_size, last):
    taken, after = serve(ranks, total, 0, batch_size, last)
    new = sorted(position for position, repeated in taken if not repeated)
    left = total - len(new)
    size = len(ranks)
    assert new == list(range(len(new))), "none twice, none left out before the last ones"
    assert left <= {"short": size - 1, "drop": size * batch_size - 1, "pad": 0}[last]
    assert len(taken) == len(new) or last == "pad"
    assert after is None or not taken


@given(worlds(), worlds(), st.integers(1, 200), st.integers(1, 9), st.integers(1, 9), st.integers(0, 20))
def test_interrupted_and_resumed_in_another_world(before, after, total, small, large, stop):
    first, consumed = serve(before, total, 0, small, "short", stop)
    second = [] if consumed is None else serve(after, total, consumed, large, "short")[0]
    seen = sorted(position for position, _ in first + second)
    assert len(seen) == len(set(seen))
    assert seen == list(range(len(seen)))
    assert total - len(seen) <= max(len(before), len(after)) - 1


@given(worlds(), st.integers(1, 100), st.integers(1, 5))
def test_any_consecutive_positions_give_every_rank_one(ranks, start, rounds):
    size = len(ranks)
    turns = [world.turn for world in ranks]
    for position in range(start, start + rounds):
        assert sorted((position + k) % size for k in range(size)) == sorted(turns)


def test_pad_repeats_the_epochs_first_samples():
    batches = Batches(world=World(1, 2), batch_size=4, total=11, consumed=8, last="pad", wrap=11)
    positions, padded = batches.positions(0, 4)
    assert positions.tolist() == [9, 0, 2, 4]
    assert padded is not None
    assert padded.tolist() == [False, True, True, True]
