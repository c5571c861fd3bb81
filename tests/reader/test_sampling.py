"""Loaders that sample: any world, batch size and interruption give one sequence; what can't be is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardwright as sw
from shardwright.errors import ConfigError, SchemaError, StateError
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.order.strategies import worlds
from tests.reader.test_loader import sequence

SAMPLES = 90
SCHEMA = Schema(
    fields=(
        Field(name="label", dtype="int64"),
        Field(name="kind", dtype="string"),
        Field(name="maybe", dtype="int32", nullable=True),
        Field(name="flag", dtype="bool"),
        Field(name="weight", dtype="float32"),
        Field(name="array", dtype="uint8", shape=(2,)),
    )
)
DATA: dict[str, Any] = {
    "label": np.arange(SAMPLES),
    "kind": ["rare" if row % 30 == 0 else "often" if row % 2 else "some" for row in range(SAMPLES)],
    "maybe": [None if row % 2 else row % 4 for row in range(SAMPLES)],
    "flag": [row < 5 for row in range(SAMPLES)],
    "weight": [float(row % 3) for row in range(SAMPLES)],
    "array": np.zeros((SAMPLES, 2), np.uint8),
}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    root = tmp_path_factory.mktemp("sampling") / "d"
    publish(root, {"train": DATA}, SCHEMA, shards=3, remainder="spread")
    return sw.open_dataset(str(root), columns=["label"])


SAMPLINGS = st.sampled_from(
    [sw.Balanced("kind"), sw.Balanced("flag"), sw.Weighted("weight"), sw.Weighted(np.arange(SAMPLES) % 7 + 0.25)]
)
PER_EPOCH = st.sampled_from([None, 40, 200])


@given(worlds(), worlds(), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), SAMPLINGS, PER_EPOCH)
@settings(max_examples=40)
def test_any_world_batch_and_interruption_give_the_sequence_of_one_rank(
    train, before, after, small, large, stop, sampling, per_epoch
):
    options = {"sampling": sampling, "samples_per_epoch": per_epoch, "seed": 5}
    alone, _ = sequence(train, [sw.World()], batch_size=7, **options)
    assert len(alone) == (per_epoch or SAMPLES)
    first, state = sequence(train, before, batches=stop, batch_size=small, **options)
    if state["epoch"]:
        assert first == alone[: len(first)]
        return
    second, _ = sequence(train, after, state=state, batch_size=large, **options)
    assert first + second == alone[: len(first) + len(second)]
    assert len(alone) - len(first) - len(second) <= len(after) - 1


def test_every_class_equally_often(train):
    drawn, _ = sequence(train, [sw.World()], batch_size=8, sampling=sw.Balanced("kind"), samples_per_epoch=60)
    kinds = [DATA["kind"][label] for label in drawn]
    assert all(sorted(kinds[start : start + 3]) == ["often", "rare", "some"] for start in range(0, 60, 3))
    rare = Counter(label for label in drawn if DATA["kind"][label] == "rare")
    assert (sorted(rare), sorted(rare.values())) == ([0, 30, 60], [6, 7, 7])


def test_weights(train):
    drawn, _ = sequence(train, [sw.World()], batch_size=8, sampling=sw.Weighted("weight"), samples_per_epoch=3000)
    assert {DATA["weight"][label] for label in drawn} == {1.0, 2.0}
    twos = sum(DATA["weight"][label] == 2 for label in drawn)
    assert abs(twos - 2000) < 4 * (3000 * 2 / 9) ** 0.5
    by_field, _ = sequence(train, [sw.World()], batch_size=8, sampling=sw.Weighted("weight"))
    by_array, _ = sequence(train, [sw.World()], batch_size=8, sampling=sw.Weighted(DATA["weight"]))
    assert by_field == by_array


def test_epochs_differ_and_pad_fills_up(train):
    loader = train.loader(batch_size=8, world=sw.World(0, 2), sampling=sw.Balanced("kind"), samples_per_epoch=50, last="pad")
    epochs = [[label for batch in loader for label in batch["label"]] for _ in range(2)]
    assert len(epochs[0]) == len(epochs[1]) == 8 * len(loader) == 32
    assert epochs[0] != epochs[1]


def test_it_composes_with_where_and_select(train):
    some = train.where("maybe is not null")[5:]
    drawn, state = sequence(some, [sw.World()], batch_size=8, sampling=sw.Balanced("maybe"))
    assert Counter(DATA["maybe"][label] for label in drawn) == {0: 20, 2: 20}
    assert min(drawn) >= 10
    weights = np.zeros(len(some))
    weights[3] = 1
    drawn, _ = sequence(some, [sw.World()], batch_size=8, sampling=sw.Weighted(weights))
    assert set(drawn) == {some[3]["label"]}
    assert state["selection"] == some.selection


def test_the_state_names_the_sampling(train):
    options = {"batch_size": 4, "world": sw.World(), "sampling": sw.Balanced("kind")}
    loader = train.loader(**options)
    state = loader.state_dict()
    assert len(json.dumps(train.loader(**{**options, "sampling": sw.Weighted([1.0] * SAMPLES)}).state_dict())) < 1024
    train.loader(**options, shuffle="global").load_state_dict(state)  # it decides nothing here
    for other in (
        {"sampling": None}, {"sampling": sw.Balanced("flag")}, {"samples_per_epoch": 50}, {"sampling": sw.Weighted("weight")},
    ):  # fmt: skip
        with pytest.raises(
            StateError, match=r"another order: .*sampling {'name': 'balanced', 'field': 'kind', 'samples': 90} .this"
        ):
            train.loader(**{**options, **other}).load_state_dict(state)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"sampling": "balanced"}, ConfigError, r"sampling: expected sw.Balanced\(…\) or sw.Weighted\(…\), found 'balanced'"),
        ({"samples_per_epoch": 5}, ConfigError, "samples_per_epoch: it goes with sampling="),
        ({"sampling": sw.Balanced("kind"), "samples_per_epoch": 0}, ConfigError, "expected at least 1, found 0"),
        ({"sampling": sw.Balanced("kind"), "shuffle": "none"}, ConfigError, "sampling decides the order: leave out shuffle"),
        ({"sampling": sw.Balanced("kind"), "window_blocks": 2}, ConfigError, "sampling decides the order"),
        ({"sampling": sw.Balanced("kind"), "node_local": True}, ConfigError, "leave out node_local=True"),
        ({"sampling": sw.Balanced("kindd")}, SchemaError, "no field 'kindd'; did you mean 'kind'"),
        ({"sampling": sw.Balanced("weight")}, SchemaError, "field 'weight' is float32 .*a class is a whole number"),
        ({"sampling": sw.Balanced("array")}, SchemaError, r"field 'array' is uint8 of shape \(2,\)"),
        ({"sampling": sw.Weighted("kind")}, SchemaError, "field 'kind' is string .*a weight is a number"),
        (
            {"sampling": sw.Balanced("maybe")}, ConfigError,
            "45 samples have no 'maybe'; leave them out with dataset.where.'maybe is not null'",
        ),
        ({"sampling": sw.Weighted([1.0, 2.0])}, ConfigError, r"expected 90 numbers, one per sample, found float64 \(2,\)"),
        ({"sampling": sw.Weighted(-np.ones(SAMPLES))}, ConfigError, r"weight -1.0 of sample 0 \(90 such\)"),
    ],
)  # fmt: skip
def test_what_cannot_be(train, options, error, message):
    with pytest.raises(error, match=message):
        train.loader(batch_size=4, world=sw.World(), **options)


def test_no_samples_to_draw_from(train):
    with pytest.raises(ConfigError, match="no samples to draw from"):
        train[:0].loader(batch_size=4, world=sw.World(), sampling=sw.Balanced("kind"))
