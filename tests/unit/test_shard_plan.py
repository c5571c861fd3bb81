"""Every place goes to exactly one part or is dropped; shards are equal; boundaries are found without sorting everything."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shardwright.errors import BalanceError
from shardwright.schema import Field, Schema
from shardwright.stages.shard import (
    OrderBy,
    PartPlan,
    ShardOptions,
    ShardPlan,
    SplitSize,
    boundary_ranks,
    plan_shards,
)

REMAINDERS = ("drop", "pad", "spread", "carry")


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, ShardOptions, ShardPlan]:
    """A split of 1 to 400 samples in up to as many shards, in parts of any size."""
    samples = draw(st.integers(1, 400))
    options = ShardOptions(
        count=draw(st.integers(1, samples)),
        remainder=draw(st.sampled_from(REMAINDERS)),
        part_bytes=draw(st.integers(1, 5000)),
    )
    return samples, options, plan_shards({"train": SplitSize(samples, draw(st.integers(0, 100 * samples)))}, options)


def shards_of(plan: ShardPlan) -> list[list[PartPlan]]:
    return [list(parts) for _, parts in groupby(plan.parts, key=lambda part: part.shard)]


def held(parts: list[PartPlan]) -> int:
    return sum(part.stop - part.first + len(part.pads) for part in parts)


@given(plans())
def test_every_place_lies_in_one_part_or_is_left_out(made: tuple[int, ShardOptions, ShardPlan]) -> None:
    samples, _, plan = made
    places = [place for part in plan.parts for place in range(part.first, part.stop)]
    left_out = plan.dropped["train"] + plan.carried["train"]
    assert places == list(range(samples - left_out))
    assert plan.published["train"] == samples - left_out + plan.padded["train"]
    assert sum(held(parts) for parts in shards_of(plan)) == plan.published["train"]
    assert all(part.stop > part.first for part in plan.parts)


@given(plans())
def test_shards_are_balanced(made: tuple[int, ShardOptions, ShardPlan]) -> None:
    samples, options, plan = made
    sizes = [held(parts) for parts in shards_of(plan)]
    assert len(sizes) == options.count
    assert max(sizes) - min(sizes) <= (1 if options.remainder == "spread" and samples % options.count else 0)
    assert sizes == sorted(sizes, reverse=True)  # the first ones hold one more
    rest = samples % options.count
    expected = {"drop": (rest, 0, 0), "pad": (0, -samples % options.count, 0), "spread": (0, 0, 0), "carry": (0, 0, rest)}
    assert (plan.dropped["train"], plan.padded["train"], plan.carried["train"]) == expected[options.remainder]


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


def test_parts_are_cut_by_bytes() -> None:
    options = ShardOptions(count=4, part_bytes=1000)
    plan = plan_shards({"train": SplitSize(400, 10_000), "test": SplitSize(40, 1000)}, options)
    assert [len(parts) for parts in shards_of(plan)] == [1] * 4 + [3] * 4  # 'test', then 'train'


def test_too_few_samples() -> None:
    sizes = {"train": SplitSize(100, 1), "test": SplitSize(2, 1), "validation": SplitSize(3, 1)}
    with pytest.raises(BalanceError) as caught:
        plan_shards(sizes, ShardOptions(count=4))
    assert str(caught.value) == (
        "expected at least as many samples as shards in every split, but 'test' has 2 for 4, 'validation' has 3 for 4; lower "
        "shard.count, set shard.per_split, or choose other splits (split.fractions; --splits of a reshard)"
    )
    with pytest.raises(BalanceError, match="there are no samples left"):
        plan_shards({}, ShardOptions(count=1))


def test_other_counts_for_some_splits() -> None:
    sizes = {"train": SplitSize(100, 1), "test": SplitSize(7, 1)}
    plan = plan_shards(sizes, ShardOptions(count=4, per_split={"test": 3}, remainder="carry"))
    assert [len(list(parts)) for _, parts in groupby(plan.parts, key=lambda part: part.split)] == [3, 4]
    assert (plan.carried, plan.published) == ({"test": 1, "train": 0}, {"test": 6, "train": 100})
    with pytest.raises(BalanceError, match=r"shard\.per_split: no samples in a split 'tset'; did you mean 'test'"):
        plan_shards(sizes, ShardOptions(count=4, per_split={"tset": 3}))
    with pytest.raises(BalanceError, match=r"but 'test' has 7 for 8; lower"):
        plan_shards(sizes, ShardOptions(count=4, per_split={"test": 8}))


@pytest.mark.parametrize(
    "values",
    [
        {"count": 0},
        {"count": 100_000},
        {"count": 1, "remainder": "keep"},
        {"count": 1, "part_bytes": 0},
        {},
        {"count": 1, "per_split": {"a": 0}},
        {"count": 1, "order": "keep"},
        {"count": 1, "order_by": ("a",)},
        {"count": 1, "order": "keep", "order_by": ("a", "a")},
        {"count": 1, "order": "keep", "order_by": tuple("abcde")},
    ],
)
def test_options_that_can_not_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ShardOptions(**values)


def test_boundary_ranks_are_those_of_one_split() -> None:
    sizes = {"a": SplitSize(10, 10), "b": SplitSize(7, 7)}
    parts = plan_shards(sizes, ShardOptions(count=3, remainder="pad")).parts
    assert boundary_ranks(parts, "a") == [0, 1, 4, 7, 10]  # 4, 3, 3 and pads 0, 1
    assert boundary_ranks(parts, "b") == [0, 1, 3, 5, 7]


def test_ordering_by_values_rejects_those_without_a_place() -> None:
    schema = Schema(fields=(Field(name="group", dtype="string"), Field(name="time", dtype="float32", nullable=True)))
    values = {"group": ["b", "a", "a\0", "a" * 65, "a"], "time": pa.array([1, 2, 3, 4, None], pa.float32())}
    out, rejects = OrderBy(schema, ("group", "time"))(pa.RecordBatch.from_pydict(values))
    assert out["group"].to_pylist() == ["b", "a"]
    assert out["_order"][1].as_py() < out["_order"][0].as_py()
    assert (rejects.rows, rejects.fields) == ([2, 3, 4], ["group", "group", "time"])
    assert rejects.reasons == [
        "a string with a zero byte, which can't be put in order",
        "a string of 65 bytes; at most 64 can be put in order",
        "null, which has no place",
    ]
