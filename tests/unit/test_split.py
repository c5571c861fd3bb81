"""Splits are a function of seed and key: of the size that was asked for, groups whole, and for ever the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shardwright.errors import SchemaError
from shardwright.hashing import path_keys
from shardwright.schema import Field, Schema
from shardwright.stages.split import SPLIT, Split, SplitOptions

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


@pytest.mark.parametrize("options", [{"column": "patint"}, {"group": "patint", "fractions": {"a": 1.0}}])
def test_a_field_that_is_not_there(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="no field 'patint'; did you mean 'patient'"):
        Split(SCHEMA, SplitOptions(**options))


def test_thirds_leave_nothing_out() -> None:
    found = split(NAMES, SplitOptions(fractions={"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}))
    assert np.ptp([found.count(name) for name in "abc"]) < 500
