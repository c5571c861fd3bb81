"""Sampling: every class equally often, every weight its share, from anywhere in an epoch, for ever the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import ConfigError
from shardwright.hashing import Permutation, permuted
from shardwright.order import Balanced, Plan, Weighted
from shardwright.order.sampling import BalancedSampler, WeightedSampler, check_weights, describe_sampling

PLAN = Plan(content_id="0" * 64, seed=7, shuffle="global", shards=(0,), samples=(100,), block_samples=1, window_blocks=1)


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_one_of_many_permutations_is_that_permutation(n, key):
    positions = np.arange(n)
    found = permuted(n, np.full(n, key, np.uint64), positions)
    assert np.array_equal(found, Permutation(n, key)(positions))


def test_each_of_many_permutations_has_its_own_size_and_key():
    sizes = np.array([1, 2, 5, 9, 16, 17, 2**31, 2**40, 3])
    keys = np.arange(9, dtype=np.uint64) * np.uint64(2**60 + 1)
    positions = sizes - 1
    found = permuted(sizes, keys, positions)
    small = [Permutation(int(n), int(k))(np.array([p]))[0] for n, k, p in zip(sizes, keys, positions, strict=True)]
    assert found.tolist() == small
    assert permuted(5, keys[:0], positions[:0]).tolist() == []


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 3), st.integers(0, 2**64 - 1))
def test_balanced_has_each_class_once_a_round_and_each_sample_once_a_cycle(labels, epoch, seed):
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    count = int(classes.max()) + 1
    plan = Plan(**{**vars(PLAN), "seed": seed})
    drawn = BalancedSampler(plan, classes)(epoch, np.arange(count * 2 * len(labels)))
    for start in range(0, len(drawn), count):
        assert sorted(classes[drawn[start : start + count]]) == list(range(count))
    for label in range(count):
        members = np.flatnonzero(classes == label)
        mine = drawn[classes[drawn] == label]
        for start in range(0, len(mine) - len(members) + 1, len(members)):
            assert sorted(mine[start : start + len(members)]) == members.tolist()


def test_balanced_cycles_rounds_epochs_and_seeds_differ():
    classes = np.repeat([0, 1], [40, 10])
    sampler = BalancedSampler(PLAN, classes)
    first = sampler(0, np.arange(80))
    rare = first[classes[first] == 1]
    assert sorted(rare[:10]) == sorted(rare[10:20]) == list(range(40, 50))
    assert rare[:10].tolist() != rare[10:20].tolist(), "a new permutation each cycle"
    assert len({tuple(classes[first[start : start + 2]]) for start in range(0, 80, 2)}) == 2, "and class order each round"
    assert not np.array_equal(first, sampler(1, np.arange(80)))
    assert not np.array_equal(first, BalancedSampler(Plan(**{**vars(PLAN), "seed": 8}), classes)(0, np.arange(80)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 200), st.integers(1, 7))
def test_starting_anywhere_equals_walking_there(labels, start, step):
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    weights = check_weights(np.array(labels, float) + 0.5, len(labels))
    for sampler in (BalancedSampler(PLAN, classes), WeightedSampler(PLAN, weights)):
        whole = sampler(2, np.arange(400))
        assert np.array_equal(sampler(2, np.arange(start, 400, step)), whole[start::step])


def test_weighted_gives_each_its_share():
    weights = np.array([0, 1, 2, 0, 5, 0], np.float64)
    drawn = WeightedSampler(PLAN, weights)(0, np.arange(80_000))
    counts = np.bincount(drawn, minlength=6)
    assert counts[[0, 3, 5]].tolist() == [0, 0, 0]
    expected = weights / 8 * 80_000
    chosen = expected > 0
    chi_squared = ((counts[chosen] - expected[chosen]) ** 2 / expected[chosen]).sum()
    assert chi_squared < 13.8  # of 2 degrees of freedom, exceeded once in a thousand


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=50).filter(lambda weights: max(weights) > 1e-307))
def test_weighted_never_draws_a_weight_of_zero(weights):
    checked = check_weights(np.array(weights), len(weights))
    drawn = WeightedSampler(PLAN, checked)(0, np.arange(500))
    assert (checked[drawn] > 0).all()


def test_golden():
    """A change here breaks every checkpoint: never edit these numbers."""
    classes = np.array([0, 1, 2, 2, 1, 2, 2])
    assert BalancedSampler(PLAN, classes)(2, np.arange(15)).tolist() == GOLDEN_BALANCED
    assert WeightedSampler(PLAN, np.arange(7.0))(2, np.arange(15)).tolist() == GOLDEN_WEIGHTED


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0, 2.0], r"expected 3 numbers, one per sample, found float64 \(2,\)"),
        (["a", "b", "c"], r"expected 3 numbers, one per sample, found <U1 \(3,\)"),
        ([1.0, -2.0, -1.0], r"weight -2.0 of sample 1 \(2 such\): expected finite numbers of at least 0"),
        ([1.0, 2.0, float("nan")], "weight nan of sample 2"),
        ([1.0, 2.0, float("inf")], "weight inf of sample 2"),
        ([5e-324, 0, 0], r"add up to 5e-324: expected a finite number above 0 \(at least 4.45e-308\)"),
        ([0, 0, 0], "the 3 weights add up to 0.0: expected a finite number above 0"),
        ([1e308, 1e308, 0], "the 3 weights add up to inf"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ConfigError, match=message):
        check_weights(np.array(weights), 3)


def test_what_a_state_says():
    assert describe_sampling(Balanced("label"), 9) == {"name": "balanced", "field": "label", "samples": 9}
    assert describe_sampling(Weighted("w"), 9) == {"name": "weighted", "field": "w", "samples": 9}
    first, same, other = (describe_sampling(Weighted(w), 3) for w in ([1, 2, 3], np.array([1.0, 2, 3], "f4"), [1, 2, 4]))
    assert first == same
    assert first["weights_sha256"] != other["weights_sha256"]


GOLDEN_BALANCED = [1, 0, 6, 3, 0, 4, 5, 4, 0, 2, 0, 1, 0, 6, 1]
GOLDEN_WEIGHTED = [5, 3, 5, 3, 5, 4, 2, 4, 3, 6, 6, 6, 2, 5, 6]
