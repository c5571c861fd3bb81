"""Everything at once: selections, sampling, damage, orders and ends of epochs give one sequence in any world."""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardwright as sw
from shardwright.errors import StateError
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.order.strategies import worlds

imagecodecs = pytest.importorskip("imagecodecs")

SAMPLES = 95
SCHEMA = Schema(
    fields=(
        Field(name="image", dtype="uint8", shape=(2, 2), codec="image"),
        Field(name="label", dtype="int64"),
        Field(name="kind", dtype="string"),
        Field(name="weight", dtype="float32"),
    )
)
BAD = {5, 40, 41, 94}
GOOD, BROKEN = imagecodecs.png_encode(np.zeros((2, 2), np.uint8)), b"\x89PNG\r\n\x1a\n not one"


def data(samples):
    return {
        "image": [BROKEN if row in BAD else GOOD for row in range(samples)],
        "label": np.arange(samples),
        "kind": ["abc"[row % 3] if row % 7 else "rare" for row in range(samples)],
        "weight": [float(row % 4) for row in range(samples)],
    }


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("together")
    sizes: dict[str, Any] = {"part_samples": 12, "row_group_samples": 6, "block_samples": 4, "window_blocks": 2}
    for remainder in ("drop", "spread", "pad"):
        publish(root / remainder, {"train": data(SAMPLES)}, SCHEMA, remainder=remainder, **sizes)
    publish(root / "keep", {"train": data(SAMPLES)}, SCHEMA, remainder="spread", order_by=("label",), **sizes)
    return root


CHOSEN = {
    "all": lambda d: d,
    "where": lambda d: d.where("kind != 'rare' and label > 3"),
    "where twice": lambda d: d.where("label >= 2").where("kind in ['a', 'rare']"),
    "slice": lambda d: d[60:3:-2],
    "select": lambda d: d.select(np.array([5, 5, 80, 2, 40, 41, 11, 12, 13, 7]) % len(d)),
}
WAYS = st.sampled_from(
    [
        {}, {"shuffle": "none"}, {"shuffle": "global"}, {"window_blocks": 1}, {"sampling": sw.Balanced("kind")},
        {"sampling": sw.Weighted("weight"), "samples_per_epoch": 130},
        {"sampling": sw.Balanced("kind"), "samples_per_epoch": 9},
    ]
)  # fmt: skip


def opened(roots, version, shards, chosen):
    return CHOSEN[chosen](sw.open_dataset(str(roots / version), columns=["image", "label"], shards=shards))


def epoch(dataset, ranks, batch_size, last, state=None, batches=None, **options):
    """(sequence of (label, padded), state after it) of the current epoch, or the first `batches` of it."""
    loaders = [dataset.loader(world=w, batch_size=batch_size, last=last, on_error="replace", **options) for w in ranks]
    taken = []
    for loader in loaders:
        loader.load_state_dict(json.loads(json.dumps(state))) if state else None
        got = []
        for batch in loader:
            pads = batch.get("_pad", np.zeros(len(batch["label"]), bool))
            got.append(list(zip(batch["label"].tolist(), pads.tolist(), strict=True)))
            if len(got) == batches:
                break
        taken.append(got)
    assert len({len(got) for got in taken}) == 1, "every rank has the same number of batches"
    start = state["samples_consumed"] if state else 0
    by_turn = sorted(zip(ranks, taken, strict=True), key=lambda pair: (pair[0].turn - start) % len(ranks))
    steps = zip(*[got for _, got in by_turn], strict=True)
    states = [loader.state_dict() for loader in loaders]
    assert all(one == states[0] for one in states)
    return [sample for step in steps for row in zip(*step, strict=True) for sample in row], states[0]


@given(
    version=st.sampled_from(["drop", "spread", "pad", "keep"]), shards=st.sampled_from([None, [0], [1, 3]]),
    chosen=st.sampled_from(sorted(CHOSEN)), way=WAYS, before=worlds(), after=worlds(),
    sizes=st.tuples(*[st.integers(1, 9)] * 2),
    last=st.sampled_from(["short", "drop", "pad"]), stop=st.integers(1, 6), seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
@settings(max_examples=80)
def test_one_sequence(roots, version, shards, chosen, way, before, after, sizes, last, stop, seed):
    dataset = opened(roots, version, shards, chosen)
    total = way.get("samples_per_epoch", len(dataset))
    options = {**way, "seed": seed}
    largest = [len(world) * size for world, size in zip((before, after), sizes, strict=True)]
    if total < max(largest):
        return  # an epoch has no batch with last="drop"
    alone, _ = epoch(dataset, [sw.World()], 7, "short", **options)
    assert len(alone) == total
    assert not {label for label, _ in alone} & BAD
    first, state = epoch(dataset, before, sizes[0], last, batches=stop, **options)
    second = []
    if state["epoch"] == 0:
        second, state = epoch(dataset, after, sizes[1], last, state=state, **options)
    found = first + second
    real = [sample for sample in found if not sample[1]]
    assert real == alone[: len(real)]
    assert (state["epoch"], state["samples_consumed"]) == (1, 0)
    left = {"short": max(map(len, (before, after))) - 1, "drop": max(largest) - 1, "pad": 0}[last]
    assert total - len(real) <= left
    assert {label for label, padded in found if padded} <= {label for label, _ in alone}


@given(st.sampled_from(sorted(CHOSEN)), st.sampled_from(sorted(CHOSEN)), WAYS, WAYS)
@settings(max_examples=40)
def test_a_state_of_anything_else_is_refused(roots, one, two, first, second):
    a, b = (
        opened(roots, "spread", None, chosen).loader(batch_size=3, world=sw.World(), **way)
        for chosen, way in ((one, first), (two, second))
    )
    order = [
        [batch["label"].tolist() for batch in loader.dataset.reading("label").loader(batch_size=3, world=sw.World(), **way)]
        for loader, way in ((a, first), (b, second))
    ]
    try:
        b.load_state_dict(a.state_dict())
    except StateError:
        return
    assert order[0] == order[1]


def test_weights_are_those_of_the_making(roots):
    dataset = opened(roots, "spread", None, "all")
    weights = np.ones(SAMPLES)
    loader = dataset.loader(batch_size=4, world=sw.World(), sampling=sw.Weighted(weights))
    before = loader.state_dict()
    weights[3] = 9
    assert loader.state_dict() == before
    changed = dataset.loader(batch_size=4, world=sw.World(), sampling=sw.Weighted(weights))
    with pytest.raises(StateError, match=r"belongs to another order: sampling {'name': 'weighted', 'weights_sha256': "):
        changed.load_state_dict(before)


def labels_of(loader):
    return [batch["label"].tolist() for batch in loader]


@pytest.mark.parametrize("sampling", [sw.Balanced("kind"), sw.Weighted("weight"), sw.Weighted(np.arange(30.0) + 1)])
def test_loaders_go_to_other_processes(roots, sampling):
    dataset = opened(roots, "spread", None, "all").reading("label").where("label >= 5")[:30]
    here = dataset.loader(batch_size=4, world=sw.World(), sampling=sampling)
    next(iter(here))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(labels_of, (here,))
    assert there == labels_of(here)


def test_order_that_was_kept(roots, caplog):
    dataset = sw.open_dataset(str(roots / "keep"), columns=["label"])
    assert [sample["label"] for sample in dataset] == list(range(SAMPLES)), "iterating goes shard after shard"
    sizes = dataset.source.catalog.shard_samples
    first = np.cumsum([0, *sizes])
    for rank, size in enumerate(sizes):
        loader = dataset.loader(batch_size=5, world=sw.World(rank, 4), shuffle="none")
        mine = [label for batch in loader for label in batch["label"].tolist()]
        assert mine == list(range(first[rank], first[rank] + min(sizes))), "a rank of as many as shards reads one stretch"
        assert size - len(mine) <= 1
    (batch,) = dataset.loader(batch_size=SAMPLES, world=sw.World(), shuffle="none")
    assert batch["label"][:5].tolist() == [first[0], first[1], first[2], first[3], 1], "one process takes turns between shards"
    (batch,) = sw.open_dataset(str(roots / "keep"), shards=[2], columns=["label"]).loader(
        batch_size=SAMPLES, world=sw.World(), shuffle="none"
    )
    assert batch["label"].tolist() == list(range(first[2], first[3]))
    (batch,) = dataset.select(np.arange(SAMPLES)[::-1]).loader(batch_size=SAMPLES, world=sw.World(), shuffle="none")
    assert batch["label"].tolist() == list(range(SAMPLES))[::-1]


def test_the_window_shuffle_of_an_order_that_was_kept_is_warned_of(tmp_path, caplog):
    publish(tmp_path / "d", {"train": {"label": range(8)}}, Schema(fields=(SCHEMA["label"],)), order_by=("label",))
    dataset = sw.open_dataset(tmp_path / "d")
    for shuffle in ("none", "global"):
        dataset.loader(batch_size=2, world=sw.World(), shuffle=shuffle)
    assert caplog.text == ""
    dataset.loader(batch_size=2, world=sw.World())
    dataset[:4].loader(batch_size=2, world=sw.World())
    assert (
        caplog.text.count("the samples lie in the order of label, and shuffle='window' is for samples that were shuffled") == 1
    )
    assert "say shuffle='none' to read them in order, 'global' to shuffle them well" in caplog.text
