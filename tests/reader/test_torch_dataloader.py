"""Inside `torch.utils.data.DataLoader`: the batches of the loader, each once, in its order, whoever reads them."""

from __future__ import annotations

import gc
import inspect
import multiprocessing
import os
import threading
import time
import typing
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler

import shardwright as sw
import shardwright.torch as swt
from shardwright.errors import ConfigError, StateError
from shardwright.reader.options import LoaderArguments

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # as many as here are processors
ALONE = sw.World()
OPTIONS: dict[str, Any] = {"batch_size": 16, "seed": 5, "normalise": True}


@pytest.fixture(scope="module")
def train(small):
    return sw.open_dataset(str(small), split="train")


def workers(data, count, **options):
    return DataLoader(data, sampler=data.sampler, batch_size=None, num_workers=count, **options)


def labels(batches):
    return [batch["label"].tolist() for batch in batches]


def double(batch):
    return {**batch, "twice": batch["label"] * 2}


def fails(batch):
    if 100 in batch["label"]:
        raise ArithmeticError("sample 100 is not for this transform")
    return batch


def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("world, count", [(ALONE, 0), (ALONE, 3), (sw.World(1, 3), 2)])
def test_the_batches_are_those_of_the_loader_epoch_after_epoch(train, world, count):
    loader = swt.loader(train, world=world, transform=double, **OPTIONS)
    inside = workers(swt.batches(train, world=world, transform=double, **OPTIONS), count)
    assert len(inside) == len(loader)
    for _ in range(2):
        for plain, batch in zip(loader, inside, strict=True):
            assert set(batch) == set(plain) == {"image", "label", "twice"}
            assert all(torch.equal(batch[name], plain[name]) for name in plain)


@pytest.mark.parametrize("last", ["short", "pad"])
def test_more_workers_than_batches_and_every_end_of_an_epoch(train, last):
    few = train[:50]
    loader = swt.loader(few, 16, world=ALONE, last=last)
    assert labels(workers(swt.batches(few, 16, world=ALONE, last=last), 5)) == labels(loader)


def test_persistent_workers_and_a_break_in_mid_epoch(train):
    loader = swt.loader(train, world=ALONE, **OPTIONS)
    epochs = [labels(loader) for _ in range(4)]
    inside = workers(swt.batches(train, world=ALONE, **OPTIONS), 2, persistent_workers=True)
    assert labels(inside) == epochs[0]
    assert next(iter(inside))["label"].tolist() == epochs[1][0]
    assert labels(inside) == epochs[2]
    inside.sampler.set_epoch(1)
    assert labels(inside) == epochs[1]
    assert labels(inside) == epochs[2]


def test_spawned_workers(train):
    data = swt.batches(train, 64, world=ALONE, transform=double)
    expected = labels(swt.loader(train, 64, world=ALONE))
    assert labels(workers(data, 2, multiprocessing_context="spawn")) == expected


@pytest.mark.parametrize("steps", [5, 13])
def test_the_state_is_that_of_the_trainers_count(train, steps):
    loader = swt.loader(train, world=ALONE, **OPTIONS)
    data = swt.batches(train, world=ALONE, **OPTIONS)
    states = [loader.state_dict() for _ in loader]
    for step, _ in enumerate(workers(data, 2), start=1):
        assert data.state_after(step) == states[step - 1]
        if step == steps:
            break
    state = data.state_after(steps)
    loader.load_state_dict(state)
    rest, following = labels(loader), labels(loader)
    other = swt.batches(train, world=ALONE, **OPTIONS)
    other.load_state_dict(state)
    other.sampler.set_epoch(state["epoch"])  # as frameworks do, which know the epoch alone
    inside = workers(other, 3)
    assert (labels(inside), labels(inside)) == (rest, following)
    plain = train.loader(batch_size=8, seed=5, world=sw.World(0, 2))  # another world, without PyTorch
    plain.load_state_dict(state)
    assert plain.state_dict()["samples_consumed"] == state["samples_consumed"]


def test_epochs_end_it(train):
    inside = workers(swt.batches(train, 16, world=ALONE, epochs=2), 0)
    assert [len(labels(inside)) for _ in range(4)] == [13, 13, 0, 0]


def test_a_state_of_another_order_and_a_foreign_sampler_are_refused(train):
    data = swt.batches(train, 16, world=ALONE)
    with pytest.raises(StateError, match="seed"):
        data.load_state_dict(swt.loader(train, 16, world=ALONE, seed=9).state_dict())
    for wrong in (DataLoader(data, batch_size=None), DataLoader(data, batch_size=None, shuffle=True)):
        with pytest.raises(ConfigError, match=r"say DataLoader\(data, sampler=data.sampler, batch_size=None\)"):
            next(iter(wrong))


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_in_a_transform_ends_it_cleanly_and_the_next_epoch_runs(train, count):
    threads, before = threading.active_count(), descriptors()
    inside = workers(swt.batches(train, 16, world=ALONE, transform=fails), count)
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="sample 100 is not for this transform"):
            labels(inside)
    del inside
    _nothing_left(threads, before)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_leaving_the_loop_leaves_no_process_thread_or_descriptor(train, start):
    if start == "spawn":
        multiprocessing.resource_tracker.ensure_running()  # Python's own, which stays
    threads, before = threading.active_count(), descriptors()
    began = time.monotonic()
    batches = iter(workers(swt.batches(train, 16, world=ALONE), 2, multiprocessing_context=start))
    next(batches)
    other = iter(swt.loader(train, 16, world=ALONE, threads=2))  # a second loader in the process
    next(other)
    ended = time.monotonic()
    del batches, other
    _nothing_left(threads, before)
    assert time.monotonic() - ended < 10 + (ended - began)


def _nothing_left(threads, before):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (
        multiprocessing.active_children() or threading.active_count() > threads or descriptors() > before
    ):
        gc.collect()  # an exception's frames hold the iterator
        time.sleep(0.05)
    assert not multiprocessing.active_children()
    assert (threading.active_count() <= threads, descriptors() <= before) == (True, True)


def test_samples_one_by_one_with_a_sampler_and_collation_of_pytorchs_own(train):
    chosen = list(range(0, 200, 3))
    torch.manual_seed(1)
    batches = list(DataLoader(train, batch_size=10, sampler=SubsetRandomSampler(chosen), num_workers=2))
    assert [len(batch["label"]) for batch in batches] == [10] * 6 + [7]
    found = torch.cat([batch["label"] for batch in batches])
    assert sorted(found.tolist()) == sorted(train.take(chosen)["label"].tolist())
    index = {label: number for number, label in enumerate(train.take(range(len(train)))["label"].tolist())}
    images = train.take([index[label] for label in found.tolist()])["image"]
    assert np.array_equal(torch.cat([batch["image"] for batch in batches]), images)
    first = train.__getitems__([7, -1])
    assert [sample["label"] for sample in first] == train.take([7, -1])["label"].tolist()


def test_adapters_hand_on_all_that_a_loader_takes():
    of = inspect.signature(sw.Dataset.loader, eval_str=True).parameters
    taken = {name: parameter.annotation for name, parameter in of.items() if name not in ("self", "batch_size", "world")}
    assert typing.get_type_hints(LoaderArguments) == taken
