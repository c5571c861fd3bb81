"""A training job, step by step: on real datasets, interrupted, killed, gone on with by other ranks, batch sizes and threads.

What must come is worked out here, from the sequence that one process reads alone and what docs/reader.md says of positions.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import shardwright as sw
from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.order.strategies import worlds

SAMPLES = 157
SCHEMA = Schema(
    fields=(
        Field(name="array", dtype="uint8", shape=(6,)),
        Field(name="label", dtype="int64"),
        Field(name="kind", dtype="string"),
        Field(name="weight", dtype="float32"),
    )
)
DATA: dict[str, Any] = {
    "array": np.repeat(np.arange(SAMPLES, dtype=np.uint8)[:, None], 6, axis=1),
    "label": np.arange(SAMPLES),
    "kind": ["rare" if row % 20 == 0 else "ab"[row % 2] for row in range(SAMPLES)],
    "weight": [float(row % 4) for row in range(SAMPLES)],
}
CHOSEN = {
    "all": lambda d: d,
    "where": lambda d: d.where("kind != 'a' and label > 9"),
    "select": lambda d: d.select(np.arange(5, 140)[::-1] * 7 % 150),
    "slice": lambda d: d[150:2:-3],
}
WAYS = st.sampled_from(
    [
        {"shuffle": "window"}, {"shuffle": "global"}, {"shuffle": "none"}, {"window_blocks": 1},
        {"sampling": sw.Balanced("kind")}, {"sampling": sw.Weighted("weight"), "samples_per_epoch": 190},
    ]
)  # fmt: skip
LASTS = st.sampled_from(["short", "drop", "pad"])
SIZES, THREADS = st.integers(1, 12), st.integers(0, 2)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The same samples in equal shards, in unequal ones, and in memory, read remotely."""
    root = tmp_path_factory.mktemp("runs")
    sizes: dict[str, Any] = {"part_samples": 12, "row_group_samples": 5, "block_samples": 4, "window_blocks": 2}
    publish(root / "drop", {"train": DATA}, SCHEMA, shards=3, **sizes)
    publish(root / "spread", {"train": DATA}, SCHEMA, shards=5, remainder="spread", compressed=["kind"], **sizes)
    memory = fsspec.filesystem("memory")
    memory.put(str(root / "spread"), "/runs", recursive=True)
    yield {"drop": str(root / "drop"), "spread": str(root / "spread"), "remote": "memory://runs"}
    memory.rm("/runs", recursive=True)


class Run(RuleBasedStateMachine):
    """All ranks of a job, in one process."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        super().__init__()
        self.urls = urls
        self.iterators: list[Iterator[Any]] = []

    @initialize(
        place=st.sampled_from(["drop", "spread", "remote"]), chosen=st.sampled_from(sorted(CHOSEN)), way=WAYS,
        seed=st.integers(0, 2**64 - 1), ranks=worlds(), batch_size=SIZES, threads=THREADS, last=LASTS,
    )  # fmt: skip
    def begin(self, place, chosen, way, seed, ranks, batch_size, threads, last):
        columns = ["array", "label"]
        self.dataset = CHOSEN[chosen](sw.open_dataset(self.urls[place], columns=columns))
        self.alone = CHOSEN[chosen](sw.open_dataset(self.urls["spread" if place == "remote" else place], columns=["label"]))
        self.options = {**way, "seed": seed}
        self.total = way.get("samples_per_epoch", len(self.dataset))
        self.epoch, self.consumed = 0, 0
        self.epochs: dict[int, list[int]] = {}  # what was taken of each epoch, by the steps that the last state knows of
        self.sequence = functools.cache(self._sequence)
        self.start(ranks, batch_size, threads, last, None)
        self.save()

    def _sequence(self, epoch: int) -> list[int]:
        """The labels of an epoch as one process reads them, in another batch size and without threads."""
        loader = self.alone.loader(batch_size=self.total, world=sw.World(), threads=0, **self.options)
        loader.load_state_dict(loader.state_at(0, epoch=epoch))
        (batch,) = loader
        found: list[int] = batch["label"].tolist()
        return found

    def start(self, ranks, batch_size, threads, last, state):
        self.close()
        batch_size = min(batch_size, self.total // len(ranks))  # with more an epoch has no batch
        self.ranks, self.batch_size, self.last = ranks, batch_size, last
        self.loaders = [
            self.dataset.loader(batch_size=batch_size, world=world, threads=threads, last=last, **self.options)
            for world in ranks
        ]
        for loader in self.loaders:
            if state is not None:
                loader.load_state_dict(json.loads(state))

    def close(self):
        for batches in self.iterators:
            batches.close()  # type: ignore[attr-defined]  # a generator
        self.iterators = []

    def stretches(self) -> list[range]:
        """The global batches that are left of the epoch."""
        step, out, begin = len(self.ranks) * self.batch_size, [], self.consumed
        while self.total - begin >= step:
            out.append(range(begin, begin + step))
            begin += step
        rest = self.total - begin
        served = {"short": rest - rest % len(self.ranks), "drop": 0, "pad": rest}[self.last]
        return [*out, range(begin, begin + served)] if served else out

    def take(self, stretch: range) -> None:
        sequence = self.sequence(self.epoch)
        for world, batches in zip(self.ranks, self.iterators, strict=True):
            batch = next(batches)
            real = ~batch["_pad"] if self.last == "pad" else np.ones(len(batch["label"]), bool)
            assert (batch["array"] == (batch["label"])[:, None]).all(), "the fields belong together"
            expected = [sequence[g] for g in stretch if g % len(self.ranks) == world.turn]
            assert batch["label"][real].tolist() == expected
            assert len(real) == (self.batch_size if self.last == "pad" else len(stretch) // len(self.ranks))
            assert set(batch["label"][~real].tolist()) <= set(sequence)
        self.epochs.setdefault(self.epoch, []).extend(sequence[stretch.start : stretch.stop])

    @rule(steps=st.integers(1, 6))
    def train(self, steps):
        """Some steps, into the next epoch where this one ends; every rank's epoch ends at the same step."""
        asked = self.dataset.loader(
            batch_size=self.batch_size, world=self.ranks[0], last=self.last, **self.options
        )  # of which nothing is read
        asked.load_state_dict(self.loaders[0].state_dict())
        taken = 0
        for _ in range(steps):
            left = self.stretches()
            taken += len(left) > 0
            assert {loader.remaining for loader in self.loaders} == {len(left)}
            self.iterators = self.iterators or [iter(loader) for loader in self.loaders]
            if left:
                self.take(left[0])
                self.consumed = left[0].stop
            if len(left) <= 1:
                self.end_epoch()
        assert asked.state_after(taken) == self.loaders[0].state_dict()

    def end_epoch(self):
        assert [next(batches, None) for batches in self.iterators] == [None] * len(self.ranks)
        self.iterators = []
        taken, sequence = self.epochs.pop(self.epoch, []), self.sequence(self.epoch)
        most = {"short": len(self.ranks) - 1, "drop": len(self.ranks) * self.batch_size - 1, "pad": 0}[self.last]
        assert taken == sequence[: len(taken)], "resumed or not, the same sequence"
        assert self.total - len(taken) <= most
        if "sampling" not in self.options:
            assert not Counter(sequence) - Counter(self.alone.take(range(self.total))["label"].tolist()), "no sample twice"
        self.epoch, self.consumed = self.epoch + 1, 0

    @rule()
    def leave_the_loop(self):
        self.close()

    @rule()
    def save(self):
        self.saved = json.dumps(self.loaders[-1].state_dict())
        self.known = self.epoch, self.consumed, list(self.epochs.get(self.epoch, []))
        assert len(self.saved) < 1024

    @rule(ranks=worlds(), batch_size=SIZES, threads=THREADS, last=LASTS)
    def killed(self, ranks, batch_size, threads, last):
        """Others go on from the last saved state; what was taken since then is forgotten."""
        self.epoch, self.consumed, taken = self.known
        self.epochs = {self.epoch: list(taken)}
        self.start(ranks, batch_size, threads, last, self.saved)

    @invariant()
    def states_are_where_the_job_is(self):
        for loader in self.loaders:
            state = loader.state_dict()
            assert (state["epoch"], state["samples_consumed"]) == (self.epoch, self.consumed)
            assert state == self.loaders[0].state_dict()

    def teardown(self):
        self.close()


def test_a_job_sees_the_sequence_of_one_process(urls):
    class RunOfThese(Run):
        def __init__(self) -> None:
            super().__init__(urls)

    run_state_machine_as_test(RunOfThese, settings=settings(max_examples=25, stateful_step_count=15))
