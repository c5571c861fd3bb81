"""What loaders count: how long the trainer waited, on which stage, and how many batches were ready for it."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest

import shardwright as sw
from shardwright.reader import Metrics
from shardwright.reader.threads import Inline, Pool
from tests.datasets import digits, publish
from tests.reader.test_remote import wait_until

NOTHING = dict.fromkeys(("order", "fetch", "decode", "decode_wait", "transform", "room", "wait", "step"), 0.0)


@pytest.fixture(scope="module")
def train(small):
    return sw.open_dataset(str(small), split="train")


def metrics(batches=1, **seconds):
    counts = {field.name: 0 for field in dataclasses.fields(Metrics)}
    return Metrics(**{**counts, "batches": batches, "replaced_first": ("here",), "seconds": {**NOTHING, **seconds}})


@pytest.mark.parametrize(
    "seconds, limit",
    [
        ({"wait": 1, "step": 99, "fetch": 80}, "trainer"),
        ({"wait": 10, "step": 90, "fetch": 80, "decode": 90, "room": 95}, "fetch"),
        ({"wait": 99, "step": 1, "decode_wait": 80, "fetch": 20}, "decode"),
        ({"wait": 99, "step": 1, "decode": 80, "order": 20}, "order"),
        ({"wait": 99, "step": 1, "transform": 80, "fetch": 79}, "transform"),
    ],
)
def test_what_the_limit_is(seconds, limit):
    assert metrics(**seconds).limit == limit
    assert metrics(**seconds).wait_share == pytest.approx(seconds["wait"] / 100)


def test_before_the_first_batch_nothing_is_known(train):
    found = train.loader(batch_size=4, world=sw.World()).metrics()
    assert (found.batches, found.wait_share, found.limit, found.seconds) == (0, 0.0, None, NOTHING)


def test_a_copy_that_json_can_hold(train):
    loader = train.loader(batch_size=10, world=sw.World())
    begun = loader.metrics()
    for _ in loader:
        pass
    assert (begun.batches, begun.seconds) == (0, NOTHING), "a copy stays as it was"
    found = json.loads(json.dumps(loader.metrics().to_json()))
    assert (found["batches"], found["samples"], found["limit"]) == (20, 200, loader.metrics().limit)
    assert found["wait_share"] == loader.metrics().wait_share
    assert json.loads(json.dumps(metrics().to_json())) == metrics().to_json()


def test_what_was_done_since(train):
    loader = train.loader(batch_size=64, world=sw.World(0, 3), threads=0)
    for _ in loader:
        pass
    first = loader.metrics()
    for _ in loader:
        pass
    both = loader.metrics()
    second = both.since(first)
    assert (second.batches, second.samples, second.dropped) == (first.batches, first.samples, first.dropped) == (2, 66, 2)
    for name, seconds in both.seconds.items():
        assert seconds == pytest.approx(first.seconds[name] + second.seconds[name])
    assert both.since(both).seconds == NOTHING


def test_stored_values_come_in_the_loaders_order(train):
    loader = train.loader(batch_size=30, world=sw.World(1, 2), seed=3)
    next(iter(loader))
    state = loader.state_dict()
    labels = np.concatenate([values[1].view(np.int64) for values in loader.stored()])
    assert loader.state_dict() == state
    assert np.array_equal(labels, np.concatenate([batch["label"] for batch in loader]))


@pytest.mark.parametrize("threads", [0, 2])
def test_the_trainers_time_is_all_there(train, threads):
    loader = train.loader(batch_size=20, world=sw.World(), normalise=True, threads=threads)
    began, mine = time.perf_counter(), 0.0
    for _ in range(2):
        for _ in loader:
            got = time.perf_counter()
            time.sleep(0.002)
            mine += time.perf_counter() - got
    wall, seconds = time.perf_counter() - began, loader.metrics().seconds
    assert mine <= seconds["step"]
    assert wall - mine >= seconds["wait"] > 0
    assert seconds["wait"] + seconds["step"] <= wall


@pytest.mark.parametrize("threads", [0, 2])
def test_a_slow_transform_is_the_limit(train, threads):
    def slow(batch):
        time.sleep(0.05)
        return batch

    loader = train.loader(batch_size=50, world=sw.World(), transform=slow, threads=threads)
    assert len(list(loader)) == 4
    found = loader.metrics()
    assert (found.limit, found.seconds["transform"] >= 4 * 0.05) == ("transform", True)


def test_batches_that_wait(train):
    loader = train.loader(batch_size=10, world=sw.World(), normalise=True, threads=1)
    batches = iter(loader)
    next(batches)
    wait_until(lambda: loader.metrics().queued == 8)  # of 19 that are left
    wait_until(lambda: loader.metrics().seconds["room"] > 0)
    first = loader.metrics().queued_mean
    assert 0 <= first <= 8, "as many as were made before the first was asked for"
    next(batches)
    assert loader.metrics().queued_mean == (first + 8) / 2
    batches.close()
    assert loader.metrics().queued == 0
    alone = train.loader(batch_size=10, world=sw.World(), threads=0)
    assert len(list(alone)) == 20
    assert (alone.metrics().queued, alone.metrics().queued_mean, alone.metrics().seconds["room"]) == (0, 0, 0)


def test_decoding_threads_count_what_they_work():
    """Not what they wait; and nothing is counted twice where the caller decodes itself."""

    def work():
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    with Pool(2) as pool:
        assert pool.run([work, work, work]).finish() >= 0.03
        began = time.perf_counter()
        slept = pool.run([lambda: time.sleep(0.05)]).finish()
        assert slept < 0.05 <= time.perf_counter() - began
    assert Inline().run([work]).finish() == 0


def test_threads_that_decode_and_the_one_that_waits_for_them(train):
    ahead, alone = (train.loader(batch_size=50, world=sw.World(), normalise=True, threads=threads) for threads in (2, 0))
    assert len(list(ahead)) == len(list(alone)) == 4
    assert ahead.metrics().seconds["decode"] > 0
    assert ahead.metrics().seconds["decode_wait"] > 0
    assert alone.metrics().seconds["decode"] == 0
    assert alone.metrics().seconds["decode_wait"] > 0


def test_row_groups_in_memory(tmp_path):
    publish(tmp_path / "dataset", {"train": digits(96)}, shards=2, row_group_samples=8, compressed=["label"])
    dataset = sw.open_dataset(tmp_path / "dataset")
    first, second = (dataset.loader(batch_size=16, world=sw.World(), shuffle="none") for _ in range(2))
    for _ in first:
        pass
    found = first.metrics()
    assert (found.cache_misses, found.cache_hits) == (12, 0), "a batch takes a row group of each shard, and all of it"
    for _ in range(2):
        for _ in second:
            pass
    assert (second.metrics().cache_misses, second.metrics().cache_hits) == (0, 24)
