"""Loaders: the epoch's samples, none twice, in an order that world and batch size do not change, from wherever it resumes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardwright as sw
from shardwright.errors import ConfigError, CorruptError, SchemaError, StateError, WorldError
from shardwright.schema import Field, Schema
from tests.datasets import digits, publish
from tests.order.strategies import worlds

SHUFFLES = st.sampled_from(["none", "window", "global"])


@pytest.fixture(scope="module")
def train(small):
    return sw.open_dataset(str(small), split="train")


def sequence(dataset, ranks, *, batches=None, state=None, **options):
    """Labels in the order of the global sequence, of one `for` on each rank, and the state after it."""
    loaders = [dataset.loader(world=world, **options) for world in ranks]
    taken, states = [], []
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
        got = []
        for batch in loader:
            got.append(batch["label"].tolist())
            if len(got) == batches:
                break
        taken.append(got)
        states.append(loader.state_dict())
    assert all(one == states[0] for one in states), "states are the same on all ranks"
    start = 0 if state is None else state["samples_consumed"]
    size = len(ranks)
    by_turn = sorted(zip(ranks, taken, strict=True), key=lambda pair: (pair[0].turn - start) % size)
    steps = zip(*[got for _, got in by_turn], strict=True)
    return [label for step in steps for row in zip(*step, strict=True) for label in row], states[0]


@given(ranks=worlds(), batch_size=st.integers(1, 30), shuffle=SHUFFLES, seed=st.integers(0, 2**64 - 1))
@settings(max_examples=40, deadline=None)
def test_the_sequence_is_that_of_one_rank(train, ranks, batch_size, shuffle, seed):
    alone, _ = sequence(train, [sw.World()], batch_size=7, shuffle=shuffle, seed=seed)
    found, state = sequence(train, ranks, batch_size=batch_size, shuffle=shuffle, seed=seed)
    assert sorted(alone) == list(range(200))
    assert found == alone[: len(found)]
    assert len(alone) - len(found) <= len(ranks) - 1
    assert (state["epoch"], state["samples_consumed"]) == (1, 0)


@given(worlds(), worlds(), st.integers(1, 20), st.integers(1, 20), st.integers(1, 12), SHUFFLES, st.data())
@settings(max_examples=40, deadline=None)
def test_interrupted_and_resumed_in_another_world(train, before, after, small, large, stop, shuffle, data):
    chosen = train if data.draw(st.booleans()) else train[data.draw(st.integers(0, 50)) :: 2]
    options = {"shuffle": shuffle, "seed": 5}
    alone, _ = sequence(chosen, [sw.World()], batch_size=7, **options)
    first, state = sequence(chosen, before, batches=stop, batch_size=small, **options)
    if state["epoch"]:
        assert first == alone[: len(first)]
        return
    second, _ = sequence(chosen, after, state=state, batch_size=large, **options)
    assert (first + second) == alone[: len(first) + len(second)]
    assert len(alone) - len(first) - len(second) <= len(after) - 1


def test_epochs_follow_one_another(train):
    loader = train.loader(batch_size=64, world=sw.World(), epochs=2)
    assert len(loader) == loader.remaining == 4
    first = [batch["label"].tolist() for batch in loader]
    assert [len(labels) for labels in first] == [64, 64, 64, 8]
    assert loader.epoch == 1
    second = [batch["label"].tolist() for batch in loader]
    assert sorted(label for labels in first for label in labels) == sorted(label for labels in second for label in labels)
    assert first != second
    assert list(loader) == []
    assert loader.state_dict()["epoch"] == 2


def test_a_broken_for_goes_on_with_the_next_batch(train):
    loader = train.loader(batch_size=64, world=sw.World(), shuffle="none")
    for batch in loader:
        assert batch["label"][0] == 0
        break
    assert loader.remaining == 3
    assert next(iter(loader))["label"][0] == 16  # position 64: the 17th sample of the first of 4 shards


def test_two_iterations_at_once_are_refused(train):
    loader = train.loader(batch_size=64, world=sw.World())
    first = iter(loader)
    next(first)
    next(iter(loader))
    with pytest.raises(RuntimeError, match="this loader was iterated elsewhere"):
        next(first)


def test_state_at_is_what_iterating_gives(train):
    loader = train.loader(batch_size=30, world=sw.World(1, 2))
    for number, _ in enumerate(loader, 1):
        assert loader.state_at(min(60 * number, 200), epoch=0) == loader.state_dict()
        assert len(json.dumps(loader.state_dict())) < 1024
    assert loader.state_at(199, epoch=4)["epoch"] == 5
    with pytest.raises(StateError, match="201 samples consumed, of an epoch that has 200"):
        loader.state_at(201, epoch=0)
    with pytest.raises(StateError, match="epoch -1: epochs count from 0"):
        loader.state_at(0, epoch=-1)
    with pytest.raises(StateError, match="batches: expected how many were taken since the state now, at least 0, found -1"):
        loader.state_after(-1)


def test_fewer_samples_than_ranks_left(train):
    loader = train.loader(batch_size=1, world=sw.World(2, 8))
    state = {**loader.state_dict(), "samples_consumed": 195}
    loader.load_state_dict(state)
    assert loader.state_dict() == state
    assert list(loader) == []
    assert (loader.epoch, loader.metrics().dropped) == (1, 5)


@pytest.mark.parametrize(
    "change, values",
    [
        ({"seed": 8}, "seed 0 .this loader: 8"),
        ({"shuffle": "global"}, "shuffle 'window' .this loader: 'global'"),
        ({"window_blocks": 9}, "window_blocks 3 .this loader: 9"),
    ],
)
def test_a_state_of_another_order(train, change, values):
    state = train.loader(batch_size=4, world=sw.World()).state_dict()
    with pytest.raises(StateError, match=f"belongs to another order: .*{values}"):
        train.loader(batch_size=4, world=sw.World(), **change).load_state_dict(state)


def test_a_state_of_other_content_split_or_selection(train, small, tmp_path):
    state = train.loader(batch_size=4, world=sw.World()).state_dict()
    publish(tmp_path / "d", {"train": digits(203, seed=9)})
    other = sw.open_dataset(str(tmp_path / "d"))
    for dataset, name in (
        (other, "content_id"),
        (sw.open_dataset(str(small), split="validation"), "split"),
        (train[:100], "selection"),
        (sw.open_dataset(str(small), split="train", shards=[0, 2]), "selection"),
    ):
        loader = dataset.loader(batch_size=4, world=sw.World())
        with pytest.raises(StateError, match=f"belongs to another order: .*{name} .* .this loader: "):
            loader.load_state_dict(state)


def test_last(train):
    sizes = {}
    for last in ("short", "drop", "pad"):
        loader = train.loader(batch_size=32, world=sw.World(0, 3), last=last)
        batches = list(loader)
        sizes[last] = [len(batch["label"]) for batch in batches]
        assert len(loader) == len(batches)
        if last == "pad":
            assert all(batch["_pad"].dtype == bool for batch in batches)
            assert sum(batch["_pad"].sum() for batch in batches) > 0
    assert sizes == {"short": [32, 32, 2], "drop": [32, 32], "pad": [32, 32, 32]}


def test_pad_repeats_the_first_and_serves_all(train):
    taken = [list(train.loader(batch_size=32, world=sw.World(rank, 3), last="pad")) for rank in range(3)]
    real = [label for rank in taken for batch in rank for label in batch["label"][~batch["_pad"]].tolist()]
    repeated = [label for rank in taken for batch in rank for label in batch["label"][batch["_pad"]].tolist()]
    alone, _ = sequence(train, [sw.World()], batch_size=200)
    assert sorted(real) == list(range(200))
    assert sorted(repeated) == sorted(alone[: 3 * 96 - 200])


def test_normalise(train):
    plain, scaled = (next(iter(train.loader(batch_size=50, world=sw.World(), normalise=n))) for n in (False, True))
    statistics = train.statistics["image"]
    expected = (plain["image"] - statistics.mean[0]) / statistics.std[0]
    assert scaled["image"].dtype == np.float32
    np.testing.assert_allclose(scaled["image"], expected, rtol=1e-5, atol=1e-6)
    assert scaled["label"].dtype == np.int64
    with pytest.raises(SchemaError, match="no field 'imagge'; did you mean 'image'"):
        train.loader(batch_size=4, world=sw.World(), normalise=("imagge",))


def test_transform_and_metrics(train):
    loader = train.loader(batch_size=50, world=sw.World(), transform=lambda batch: {**batch, "double": 2 * batch["label"]})
    assert all((batch["double"] == 2 * batch["label"]).all() for batch in loader)
    metrics = loader.metrics()
    assert (metrics.batches, metrics.samples, metrics.bytes) == (4, 200, 200 * 72)
    made, spent = {"order", "fetch", "decode_wait", "transform"}, {"wait", "step"}
    assert set(metrics.seconds) == made | spent | {"decode", "room"}
    assert all(metrics.seconds[name] > 0 for name in made | spent)


def test_options_that_cannot_be(train):
    with pytest.raises(ConfigError) as caught:
        train.loader(batch_size=0, world=sw.World(), seed=-1, shuffle="all", last="keep", window_blocks=0, epochs=-1)
    assert len(caught.value.problems) == 6
    assert "batch_size: expected at least 1, found 0" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        train.loader(
            batch_size="4", world=(0, 2), seed=1.5, window_blocks="3", epochs=0.5, memory_limit_bytes="1 GiB", threads="2",
            transform="flip",
        )  # fmt: skip
    assert len(caught.value.problems) == 8
    assert "world: expected sw.World(rank, size), found (0, 2)" in str(caught.value)
    assert "transform: expected a function, found 'flip'" in str(caught.value)
    with pytest.raises(WorldError, match="200 samples, 3 ranks, batch size 100: an epoch has no batch with last='drop'"):
        train.loader(batch_size=100, world=sw.World(0, 3), last="drop")


def test_numbers_may_be_those_of_numpy(train):
    numbers = {"batch_size": 4, "seed": 3, "window_blocks": 2, "epochs": 9, "threads": 0, "memory_limit_bytes": 2**30}
    loader = train.loader(world=sw.World(*np.arange(1, 3)), **{name: np.int64(value) for name, value in numbers.items()})
    next(iter(loader))
    plain = train.loader(world=sw.World(1, 2), **numbers)
    next(iter(plain))
    assert json.dumps(loader.state_dict()) == json.dumps(plain.state_dict())


def test_world_comes_from_the_environment(train, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert train.loader(batch_size=4).options.world == sw.World(1, 4)


@pytest.mark.parametrize("remainder, last", [("drop", "short"), ("spread", "pad")])
def test_node_local_reads_the_nodes_own_shards_alone(tmp_path, remainder, last):
    publish(tmp_path / "whole", {"train": digits(43)}, shards=4, remainder=remainder)
    seen = []
    for node in range(2):
        root = shutil.copytree(tmp_path / "whole", tmp_path / f"node{node}")
        for shard in range(4):
            if shard % 2 != node:
                shutil.rmtree(root / f"v000001/train/shard={shard:05d}")
        dataset = sw.open_dataset(str(root))
        for local in range(2):
            options = {"batch_size": 3, "world": sw.World(2 * node + local, 4, node, 2), "last": last}
            for batch in dataset.loader(**options, node_local=True):
                seen += batch["label"][~batch.get("_pad", np.zeros(len(batch["label"]), bool))].tolist()
        with pytest.raises(CorruptError, match=r"part-00000\.parquet is missing"):
            list(dataset.loader(batch_size=3, world=sw.World()))
    assert sorted(seen) == list(range(43 if remainder == "spread" else 40))


@pytest.mark.parametrize(
    "world, message",
    [
        (sw.World(0, 3, 0, 3), "node_local=True: 4 shards on 3 nodes: expected a multiple"),
        (sw.World(0, 5, 0, 2), "node_local=True: 5 ranks on 2 nodes: expected equally many ranks"),
    ],
)
def test_node_local_is_refused_with_the_numbers(train, world, message):
    with pytest.raises(WorldError, match=message):
        train.loader(batch_size=2, world=world, node_local=True)
    with pytest.raises(WorldError, match="node_local=True reads whole splits"):
        train[:10].loader(batch_size=2, world=sw.World(), node_local=True)


def test_normalise_needs_statistics(tmp_path):
    schema = Schema(fields=(Field(name="text", dtype="string"), Field(name="n", dtype="int32")))
    publish(tmp_path / "d", {"train": {"text": ["a"] * 8, "n": range(8)}}, schema, shards=1)
    dataset = sw.open_dataset(str(tmp_path / "d"))
    with pytest.raises(SchemaError, match=r"no mean and std of field 'text' \(string\)"):
        dataset.loader(batch_size=2, world=sw.World(), normalise=("text",))
    with pytest.raises(SchemaError, match="normalise=True: no field that is read is standardised"):
        dataset.loader(batch_size=2, world=sw.World(), normalise=True)
    (batch,) = dataset.loader(batch_size=8, world=sw.World(), normalise=("n",), shuffle="none")
    np.testing.assert_allclose(batch["n"], (np.arange(8) - 3.5) / np.arange(8).std(), rtol=1e-6)
