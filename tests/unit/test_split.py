"""Splits are a function of seed and key: of the size that was asked for, groups whole, and for ever the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shardwright.errors import InputError, SchemaError
from shardwright.hashing import path_keys
from shardwright.hashing.ranks import past_the_end
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import Field, Schema
from shardwright.stages.split import (
    CLASS,
    MAX_CLASSES,
    SPLIT,
    Split,
    SplitOptions,
    StratifiedSplit,
    check_classes,
    class_cuts,
    stratified_keys,
)

SCHEMA = Schema(
    fields=(
        Field(name="x", dtype="int8"),
        Field(name="patient", dtype="string", nullable=True),
        Field(name="fold", dtype="string", nullable=True),
    )
)


def batch(names: list[str], **columns: Any) -> pa.RecordBatch:
    keys = path_keys(names)
    key = pa.Array.from_buffers(pa.binary(16), len(names), [None, pa.py_buffer(keys)])
    made = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return pa.RecordBatch.from_pydict({"x": pa.array([0] * len(names), pa.int8()), **made, "_key": key})


def split(names: list[str], options: SplitOptions, **columns: Any) -> list[str]:
    kept, rejects = Split(SCHEMA, options)(batch(names, **columns))
    assert not rejects.rows
    return list(kept[SPLIT].to_pylist())


NAMES = [str(number) for number in range(20_000)]


@pytest.mark.parametrize("fractions", [{"train": 0.9, "validation": 0.1}, {"a": 0.2, "b": 0.3, "c": 0.5}, {"only": 1.0}])
def test_fractions(fractions: dict[str, float]) -> None:
    found = split(NAMES, SplitOptions(fractions=fractions, seed=3))
    for name, share in fractions.items():
        deviation = math.sqrt(len(NAMES) * share * (1 - share))
        assert abs(found.count(name) - share * len(NAMES)) <= 4 * deviation
    assert set(found) == set(fractions)


def test_everything_trains_by_default() -> None:
    assert set(split(NAMES[:50], SplitOptions())) == {"train"}


def test_the_seed_decides() -> None:
    one, other = (split(NAMES[:1000], SplitOptions(fractions={"a": 0.5, "b": 0.5}, seed=seed)) for seed in (1, 2))
    assert 350 < sum(x == y for x, y in zip(one, other, strict=True)) < 650


@given(st.lists(st.text(max_size=5), min_size=1, max_size=30, unique=True), st.integers(0, 30))
def test_more_data_never_moves_a_sample(names: list[str], first: int) -> None:
    options = SplitOptions(fractions={"train": 0.5, "test": 0.5}, seed=9)
    whole = dict(zip(names, split(names, options), strict=True))
    some = names[:first]
    assert split(some, options) == [whole[name] for name in some]


def test_a_larger_first_fraction_only_takes_from_the_second() -> None:
    small, large = (split(NAMES, SplitOptions(fractions={"a": share, "b": 1 - share})) for share in (0.8, 0.9))
    assert all(after == "a" for before, after in zip(small, large, strict=True) if before == "a")


def test_no_group_is_in_two_splits() -> None:
    groups = [str(number % 300) if number % 7 else None for number in range(len(NAMES))]
    options = SplitOptions(fractions={"train": 0.7, "test": 0.3}, group="patient")
    found = split(NAMES, options, patient=groups)
    splits_of: dict[str | None, set[str]] = {}
    for group, name in zip(groups, found, strict=True):
        splits_of.setdefault(group, set()).add(name)
    assert {len(names) for names in splits_of.values()} == {1}
    assert 150 < sum(names == {"train"} for names in splits_of.values()) < 270
    assert split(NAMES[:900], options, patient=groups[:900]) == found[:900]  # whoever else is there


def test_an_existing_column() -> None:
    values = ["train", "test-2", None, "val_3", "", "a b", "_x", "../x", "train\n", "ü", "7"]
    kept, rejects = Split(SCHEMA, SplitOptions(column="fold"))(batch([str(n) for n in range(11)], fold=values))
    assert kept[SPLIT].to_pylist() == ["train", "test-2", "val_3", "7"]
    assert rejects.rows == [2, 4, 5, 6, 7, 8, 9]
    assert set(rejects.fields) == {"fold"}
    assert rejects.reasons[2] == "expected a split's name (letters, digits, '-', '_'), found 'a b'"
    assert rejects.reasons[0].endswith("found None")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fractions": {"a": 1.0}, "column": "fold"}, "expected fractions or column, found both"),
        ({"group": "patient"}, "group needs fractions"),
        ({"stratify": "x"}, "stratify needs fractions"),
        ({"stratify": "x", "group": "patient", "fractions": {"a": 1.0}}, "expected group or stratify, found both"),
        ({"fractions": {"a": 0.5, "b": 0.4}}, r"expected fractions that sum to 1, found .* = 0.9"),
        ({"fractions": {}}, "expected fractions that sum to 1"),
        ({"fractions": {"a": 1.5, "b": -0.5}}, "expected fractions above 0"),
        ({"fractions": {"a": 1.0, "b": 0.0}}, "expected fractions above 0"),
        ({"fractions": {"a": float("nan"), "b": 0.5}}, "expected fractions above 0"),
        ({"fractions": {"a": float("inf")}}, "expected fractions that sum to 1"),
        ({"fractions": {"shard=1": 1.0}}, "split name 'shard=1': expected letters, digits, '-' or '_'"),
        ({"fractions": {"_quarantine": 1.0}}, "split name '_quarantine'"),
        ({"fractions": {"": 1.0}}, "split name ''"),
        ({"fracktions": {"a": 1.0}}, "Extra inputs"),
    ],
)
def test_options_that_can_not_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitOptions(**options)


@pytest.mark.parametrize(
    "options",
    [{"column": "patint"}, {"group": "patint", "fractions": {"a": 1.0}}, {"stratify": "patint", "fractions": {"a": 1.0}}],
)
def test_a_field_that_is_not_there(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="no field 'patint'; did you mean 'patient'"):
        Split(SCHEMA, SplitOptions(**options))


def test_thirds_leave_nothing_out() -> None:
    found = split(NAMES, SplitOptions(fractions={"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}))
    assert np.ptp([found.count(name) for name in "abc"]) < 500


def stratify(labels: Sequence[int | None], fractions: dict[str, float], seed: int = 1) -> dict[int, str]:
    """The split of each sample, numbered from 0, as the passes find it."""
    options = SplitOptions(fractions=fractions, stratify="x", seed=seed)
    rows = batch([str(number) for number in range(len(labels))]).set_column(0, "x", pa.array(labels, pa.int8()))
    staged, rejects = Split(SCHEMA, options)(rows)
    assert not rejects.rows
    assert set(staged[SPLIT].to_pylist()) == {""}
    keys = stratified_keys(seed, fixed_bytes(staged[CLASS]), fixed_bytes(staged["_key"]))
    counts = Counter(staged[CLASS].to_pylist())
    ordered = [*sorted(row.tobytes() for row in keys), past_the_end(40)]
    bounds = [ordered[cut] for cut in class_cuts(counts, options)]
    found = StratifiedSplit.at(options, sorted(counts), bounds)(keys)
    return dict(enumerate(found.to_pylist()))


FRACTIONS = st.sampled_from([{"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.1}, {"a": 0.2, "b": 0.5, "c": 0.3}, {"only": 1.0}])


@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=60), FRACTIONS)
def test_every_class_is_cut_exactly(labels: list[int | None], fractions: dict[str, float]) -> None:
    found = stratify(labels, fractions)
    for label, count in Counter(labels).items():
        sizes = Counter(split for row, split in found.items() if labels[row] == label)
        assert sizes.total() == count
        for name, share in fractions.items():
            assert abs(sizes[name] - share * count) < 1
    whole = {label: count for label, count in Counter(labels).items() if count % 10 == 0}
    for label, count in whole.items():
        assert all(
            Counter(found[r] for r, x in enumerate(labels) if x == label)[n] == round(s * count) for n, s in fractions.items()
        )


def test_largest_remainders() -> None:
    options = SplitOptions(fractions={"a": 0.5, "b": 0.3, "c": 0.2}, stratify="x")
    assert class_cuts({b"1": 7}, options) == [4, 6]  # 3.5, 2.1, 1.4: the one that is left goes to a
    assert class_cuts({b"1": 1, b"2": 10}, options) == [1, 1, 6, 9]
    assert class_cuts({b"2": 10, b"1": 1}, options) == [1, 1, 6, 9]  # whatever order they are counted in


def test_a_class_is_cut_by_the_seed_and_not_by_other_classes() -> None:
    labels = [number % 2 for number in range(200)]
    one, other = (stratify(labels, {"a": 0.5, "b": 0.5}, seed) for seed in (1, 2))
    assert 60 < sum(one[row] == other[row] for row in one) < 140
    third = stratify([7 if label else 0 for label in labels], {"a": 0.5, "b": 0.5}, 1)
    assert all(one[row] == third[row] for row in one if labels[row] == 0)


def test_copies_are_never_parted() -> None:
    options = SplitOptions(fractions={"a": 0.5, "b": 0.5}, stratify="x")
    keys = np.zeros((4, 40), np.uint8)
    keys[3, 30] = 1
    split = StratifiedSplit.at(options, [bytes(16)], [keys[2].tobytes()])  # the middle falls among three copies
    assert split(keys).to_pylist() == ["b", "b", "b", "b"]


def test_too_many_classes() -> None:
    check_classes(MAX_CLASSES)
    with pytest.raises(
        InputError, match=r"split\.stratify: the field has more than 100,000 different values; choose a field of"
    ):
        check_classes(MAX_CLASSES + 1)
