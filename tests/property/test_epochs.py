"""Epochs of any size: whatever ranks, batches and interruptions, a global batch is the stretch of positions that it must be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.order import Batches, EpochOrder, Last, Plan, World

LASTS: st.SearchStrategy[Last] = st.sampled_from(["short", "drop", "pad"])


@dataclass(frozen=True)
class Leg:
    """One start of a job: its ranks and batch size, and after how many batches it is interrupted."""

    ranks: list[World]
    batch_size: int
    last: Last
    stop: int

    def on(self, rank: World, total: int, consumed: int) -> Batches:
        return Batches(
            world=rank, batch_size=self.batch_size, total=total, consumed=consumed, last=self.last, wrap=max(total, 1)
        )


@st.composite
def many_worlds(draw: st.DrawFn, most: int) -> list[World]:
    """All ranks of a world of up to `most` of them, on nodes that divide them or not."""
    nodes = draw(st.integers(1, 8))
    each = draw(st.integers(1, max(most // nodes - 1, 1)))
    size = nodes * each + draw(st.integers(0, nodes - 1))
    return [World(rank, size, min(rank // each, nodes - 1), nodes) for rank in range(size)]


@st.composite
def legs(draw: st.DrawFn) -> Leg:
    return Leg(draw(many_worlds(96)), draw(st.integers(1, 40)), draw(LASTS), draw(st.integers(0, 30)))


def served(leg: Leg, total: int, consumed: int) -> tuple[np.ndarray, int | None]:
    """The positions that all ranks take until the interruption, repeated ones left out, and samples consumed then."""
    each = [leg.on(rank, total, consumed) for rank in leg.ranks]
    (count,) = {len(batches) for batches in each}  # every rank has the same number of batches
    done = min(count, leg.stop)
    taken = []
    for batches in each:
        positions, repeated = batches.positions(0, done * leg.batch_size)
        sizes = {len(batches.positions(0, batch * leg.batch_size)[0]) for batch in range(done + 1)}
        assert len(sizes) == done + 1, "no batch is empty"
        taken.append(positions if repeated is None else positions[~repeated])
        assert repeated is None or (positions[repeated] < total).all()
    assert leg.last == "pad" or len({len(positions) for positions in taken}) == 1
    ends = {batches.consumed_after(done - 1) if done else consumed for batches in each}
    assert len(ends) == 1, "the state is the same on all ranks"
    return np.concatenate(taken), ends.pop()


@given(st.integers(0, 20_000), st.lists(legs(), min_size=1, max_size=6))
@settings(max_examples=150)
def test_any_chain_of_interruptions(total, chain):
    """Every position exactly once up to where the epoch ends: at most W - 1 before its last one, of the world that ends it."""
    seen = np.zeros(total, np.int64)
    consumed: int | None = 0
    for leg in chain:
        assert consumed is not None
        before = consumed
        positions, consumed = served(leg, total, before)
        seen += np.bincount(positions, minlength=total)
        if consumed is not None:
            assert consumed == before or consumed <= total
            assert (seen == (np.arange(total) < consumed)).all(), "what the state says is what was taken"
            continue
        left = total - int(seen.sum())
        assert (seen == (np.arange(total) < total - left)).all(), "none twice, none left out before the last ones"
        assert {leg.on(rank, total, before).dropped for rank in leg.ranks} == {left}
        most = {"short": len(leg.ranks) - 1, "drop": len(leg.ranks) * leg.batch_size - 1, "pad": 0}[leg.last]
        assert left <= most
        return


@given(
    total=st.integers(1, 2**50), ranks=many_worlds(2048), batch_size=st.integers(1, 8), last=LASTS, share=st.floats(0, 1),
    which=st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=100)
def test_a_global_batch_is_a_stretch_at_any_scale(total, ranks, batch_size, last, share, which):
    """Batch i after s samples is [s + iG, s + (i + 1)G): of any size of dataset, late or early, and the last one."""
    consumed, stretch = int(share * total), len(ranks) * batch_size
    leg = Leg(ranks, batch_size, last, 0)
    count = len(leg.on(ranks[0], total, consumed))
    if count == 0:
        assert total - consumed < (stretch if last == "drop" else len(ranks))
        return
    for batch in {min(int(which * count), count - 1), count - 1}:
        taken, ends = [], set()
        for rank in ranks:
            batches = leg.on(rank, total, consumed)
            positions, repeated = batches.positions(batch * batch_size, (batch + 1) * batch_size)
            taken.append(positions if repeated is None else positions[~repeated])
            assert (taken[-1] % len(ranks) == rank.turn).all()
            ends.add(batches.consumed_after(batch))
        begin = consumed + batch * stretch
        end = min(begin + stretch, total)
        if last == "short":
            end -= (end - begin) % len(ranks)
        assert (np.sort(np.concatenate(taken)) == np.arange(begin, end)).all()
        assert ends == {None if batch == count - 1 else begin + stretch}


@given(st.integers(0, 3000), st.integers(0, 3000), many_worlds(24), st.integers(1, 20), LASTS, st.integers(1, 9), st.data())
@settings(max_examples=100)
def test_workers_share_the_batches_of_a_rank(total, consumed, ranks, batch_size, last, workers, data):
    """Worker k of n makes the batches k, k + n, …: together those of the rank, with the same states after them."""
    rank = data.draw(st.sampled_from(ranks))
    options = {"world": rank, "batch_size": batch_size, "total": total, "consumed": min(consumed, total), "last": last}
    alone = Batches(**options, wrap=max(total, 1))
    each = [Batches(**options, wrap=max(total, 1), first=worker, step=workers) for worker in range(workers)]
    assert sum(map(len, each)) == len(alone)
    for batch in range(len(alone)):
        worker, number = each[batch % workers], batch // workers
        ours, theirs = (
            alone.positions(batch * batch_size, (batch + 1) * batch_size),
            worker.positions(number * batch_size, (number + 1) * batch_size),
        )
        assert np.array_equal(ours[0], theirs[0])
        assert (ours[1] is None) == (theirs[1] is None)
        assert ours[1] is None or np.array_equal(ours[1], theirs[1])
        assert worker.consumed_after(number) == (None if number + 1 == len(worker) else alone.consumed_after(batch))


@st.composite
def large_plans(draw: st.DrawFn) -> Plan:
    """Up to 100 shards of up to 2^40 whole blocks."""
    shards, block = draw(st.integers(1, 100)), draw(st.integers(1, 200))
    return Plan(
        content_id="c" * 64, seed=draw(st.integers(0, 2**64 - 1)), shuffle=draw(st.sampled_from(["none", "window", "global"])),
        shards=tuple(range(shards)), samples=(block * draw(st.integers(1, 2**40)),) * shards, block_samples=block,
        window_blocks=draw(st.integers(1, 8)),
    )  # fmt: skip


@given(large_plans(), st.integers(0, 2**32), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=2, max_size=2))
@settings(max_examples=100)
def test_stretches_of_a_large_order(plan, epoch, which, where):
    """Windows of a shard are whole blocks of it, each in one window alone; of any order no sample comes twice."""
    shards, size, group = len(plan.shards), plan.samples[0], plan.block_samples * plan.window_blocks
    shard = min(int(which * shards), shards - 1)
    begins = sorted({min(int(share * size), size - 1) // group * group for share in where})
    stretches = [np.arange(begin, min(begin + group, size)) for begin in begins]
    order = EpochOrder(plan, epoch)
    drawn = [order(stretch * shards + shard) for stretch in stretches]  # a reader, too, asks for neighbours
    numbers, found = np.concatenate(stretches), np.concatenate([of_shard for _, of_shard in drawn])
    assert all((places == shard).all() for places, _ in drawn)
    assert ((found >= 0) & (found < size)).all()
    assert len(np.unique(found)) == len(found)
    if plan.shuffle == "none":
        assert np.array_equal(found, numbers)
    if plan.shuffle == "window":
        blocks, counts = np.unique(found // plan.block_samples, return_counts=True)
        assert len(blocks) == len(numbers) // plan.block_samples
        assert (counts == plan.block_samples).all()
