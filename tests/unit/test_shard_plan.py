"""Every place goes to exactly one part or is dropped; shards are equal; boundaries are found without sorting everything."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shardwright.errors import BalanceError
from shardwright.stages.shard import (
    BINS,
    PartPlan,
    ShardOptions,
    ShardPlan,
    SplitSize,
    bins_of,
    bins_with_ranks,
    boundary_ranks,
    keys_at_ranks,
    plan_shards,
)

Remainder = Literal["drop", "pad", "spread"]


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, ShardOptions, ShardPlan]:
    """A split of 1 to 400 samples in up to as many shards, in parts of any size."""
    samples = draw(st.integers(1, 400))
    options = ShardOptions(
        count=draw(st.integers(1, samples)),
        remainder=draw(st.sampled_from(["drop", "pad", "spread"])),
        part_bytes=draw(st.integers(1, 5000)),
    )
    return samples, options, plan_shards({"train": SplitSize(samples, draw(st.integers(0, 100 * samples)))}, options)


def shards_of(plan: ShardPlan) -> list[list[PartPlan]]:
    return [list(parts) for _, parts in groupby(plan.parts, key=lambda part: part.shard)]


def held(parts: list[PartPlan]) -> int:
    return sum(part.stop - part.first + len(part.pads) for part in parts)


@given(plans())
def test_every_place_lies_in_one_part_or_is_dropped(made: tuple[int, ShardOptions, ShardPlan]) -> None:
    samples, _, plan = made
    places = [place for part in plan.parts for place in range(part.first, part.stop)]
    assert places == list(range(samples - plan.dropped["train"]))
    assert plan.published["train"] == samples - plan.dropped["train"] + plan.padded["train"]
    assert sum(held(parts) for parts in shards_of(plan)) == plan.published["train"]
    assert all(part.stop > part.first for part in plan.parts)


@given(plans())
def test_shards_are_balanced(made: tuple[int, ShardOptions, ShardPlan]) -> None:
    samples, options, plan = made
    sizes = [held(parts) for parts in shards_of(plan)]
    assert len(sizes) == options.count
    assert max(sizes) - min(sizes) <= (1 if options.remainder == "spread" and samples % options.count else 0)
    assert sizes == sorted(sizes, reverse=True)  # the first ones hold one more
    expected = {"drop": (samples % options.count, 0), "pad": (0, -samples % options.count), "spread": (0, 0)}
    assert (plan.dropped["train"], plan.padded["train"]) == expected[options.remainder]


@given(plans())
def test_pads_repeat_the_first_places_at_the_end_of_the_last_shards(made: tuple[int, ShardOptions, ShardPlan]) -> None:
    _, _, plan = made
    pads = [pad for part in plan.parts for pad in part.pads]
    assert pads == list(range(plan.padded["train"]))
    ends = [parts[-1].pads for parts in shards_of(plan)]
    assert [len(pads) for pads in ends] == [0] * (len(ends) - len(pads)) + [1] * len(pads)


@given(plans())
def test_parts_are_numbered_and_equal_but_for_one_sample(made: tuple[int, ShardOptions, ShardPlan]) -> None:
    _, _, plan = made
    assert plan.parts == tuple(sorted(plan.parts, key=lambda part: (part.split, part.shard, part.part)))
    for parts in shards_of(plan):
        assert [part.part for part in parts] == list(range(len(parts)))
        sizes = [part.stop - part.first for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_parts_and_blocks_are_cut_by_bytes() -> None:
    options = ShardOptions(count=4, part_bytes=1000, block_bytes=50)
    plan = plan_shards({"train": SplitSize(400, 10_000), "test": SplitSize(40, 1000)}, options)
    assert [len(parts) for parts in shards_of(plan)] == [1] * 4 + [3] * 4  # 'test', then 'train'
    assert plan.block_samples == 50 * 440 // 11_000
    assert plan_shards({"train": SplitSize(4, 10**9)}, options).block_samples == 1


def test_too_few_samples() -> None:
    sizes = {"train": SplitSize(100, 1), "test": SplitSize(2, 1), "validation": SplitSize(3, 1)}
    with pytest.raises(BalanceError) as caught:
        plan_shards(sizes, ShardOptions(count=4))
    assert str(caught.value) == (
        "expected at least 4 samples in every split (shard.count), but 'test' has 2, 'validation' has 3; "
        "lower shard.count or change split.fractions"
    )
    with pytest.raises(BalanceError, match="but there are no samples"):
        plan_shards({}, ShardOptions(count=1))


@pytest.mark.parametrize(
    "values", [{"count": 0}, {"count": 100_000}, {"count": 1, "remainder": "keep"}, {"count": 1, "part_bytes": 0}, {}]
)
def test_options_that_can_not_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ShardOptions(**values)


@st.composite
def place_keys(draw: st.DrawFn) -> npt.NDArray[np.uint8]:
    """1 to 60 different place keys in few bins: many share one, many end in zero bytes."""
    heads = draw(st.lists(st.sampled_from([0, 1, 7, 255, 256, BINS - 1]), min_size=1, max_size=60))
    keys = np.zeros((len(heads), 28), np.uint8)
    keys[:, :2] = np.array(heads, ">u2").view(np.uint8).reshape(-1, 2)
    keys[:, 2] = draw(st.lists(st.integers(0, 3), min_size=len(heads), max_size=len(heads)))
    which = draw(st.sampled_from([3, 15, 26]))  # what tells them apart; zeros follow
    keys[:, which] = np.arange(len(heads))
    return keys


@given(place_keys(), st.data())
def test_keys_at_ranks_are_those_of_a_plain_sort(keys: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    ordered = sorted(row.tobytes() for row in keys)
    counts = np.bincount(bins_of(keys), minlength=BINS)
    ranks = sorted(data.draw(st.sets(st.integers(0, len(keys) + 3))))
    wanted = bins_with_ranks(counts, ranks)
    candidates = keys[np.isin(bins_of(keys), wanted)]
    found = keys_at_ranks(counts, ranks, candidates)
    assert sorted(found) == ranks
    for rank in ranks:
        if rank < len(ordered):
            assert found[rank] == ordered[rank]
        else:
            assert found[rank] > b"\xff" * 28


def test_equal_keys_have_ranks_of_their_own() -> None:
    keys = np.zeros((5, 28), np.uint8)
    keys[3:, 5] = 9
    found = keys_at_ranks(np.bincount(bins_of(keys), minlength=BINS), [0, 2, 3, 4], keys)
    assert [found[rank][5] for rank in (0, 2, 3, 4)] == [0, 0, 9, 9]
    assert {len(key) for key in found.values()} == {28}


def test_boundary_ranks_are_those_of_one_split() -> None:
    sizes = {"a": SplitSize(10, 10), "b": SplitSize(7, 7)}
    parts = plan_shards(sizes, ShardOptions(count=3, remainder="pad")).parts
    assert boundary_ranks(parts, "a") == [0, 1, 4, 7, 10]  # 4, 3, 3 and pads 0, 1
    assert boundary_ranks(parts, "b") == [0, 1, 3, 5, 7]
