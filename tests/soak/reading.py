"""The process that reads for a while: python -m tests.soak.reading FOLDER SECONDS, with its report by `report`.

In each round three readers take turns batch by batch, so that several loaders are open at once. Each epoch is read by one to
three ranks, some of them in two or three pieces, each by other ranks and in another batch size, from the state that the one
before it left.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import shardwright as sw
from tests.benchmarks.growth import Held, Watch, at_rest, held, trim
from tests.benchmarks.report import now, report
from tests.reader.slow_files import slow_files

SAMPLE_SECONDS = 2.0
REQUEST_SECONDS = 0.001
MEMORY_LIMIT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Way:
    """How one dataset is read."""

    dataset: str
    remote: bool
    options: dict[str, Any] = field(default_factory=dict)
    where: str | None = None


def negative(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "value": 255 - batch["value"]}


WAYS: tuple[tuple[Way, ...], ...] = (
    (
        Way("pictures", False, {"threads": 2, "normalise": ("value",)}),
        Way("arrays", False, {"shuffle": "global"}),
        Way("arrays", False, {"threads": 1, "transform": negative}, where="label > 100"),
    ),
    (
        Way("pictures", True, {"threads": 2, "transform": negative}),
        Way("arrays", True, {"last": "pad"}),
        Way("table", True, {"threads": 1, "last": "drop"}),
    ),
    (Way("table", False, {"threads": 2, "shuffle": "window"}), Way("table", False, {"threads": 0, "shuffle": "none"})),
)
"""Of each reader the ways that it takes, one a round."""


def main() -> None:
    """Read, and report what was held, at rest between rounds and at all times, and how many epochs were right."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    counts = {"epochs": 0, "resumed": 0, "samples": 0, "batches": 0}
    random, until = np.random.default_rng(0), now() + seconds
    rest: list[tuple[int, int, Held]] = []
    with slow_files(REQUEST_SECONDS) as files, Watch(SAMPLE_SECONDS) as watch:
        for number in itertools.count():
            readers = [read_way(folder, ways[number % len(ways)], random, counts) for ways in WAYS]
            for _ in itertools.zip_longest(*readers):
                pass
            files.asked.clear()  # its notes are not what grows
            kept = at_rest().private
            trim()
            rest.append((counts["epochs"], kept, held()))
            if now() > until:
                break
    report({}, rest=rest, held=watch.noted, counts=counts)


def read_way(folder: Path, way: Way, random: np.random.Generator, counts: dict[str, int]) -> Iterator[None]:
    """Two epochs of a dataset that is opened for them, a step at a time."""
    url = f"slow://{folder / way.dataset}" if way.remote else str(folder / way.dataset)
    dataset = sw.open_dataset(url, split="train", where=way.where)
    options = {"memory_limit_bytes": MEMORY_LIMIT_BYTES, "seed": int(random.integers(2**32)), **way.options}
    for epoch in range(2):
        yield from read_epoch(dataset, epoch, options, random, counts)
        counts["epochs"] += 1


def read_epoch(
    dataset: sw.Dataset, epoch: int, options: dict[str, Any], random: np.random.Generator, counts: dict[str, int]
) -> Iterator[None]:
    """A whole epoch. Raises AssertionError unless every sample came once, but for those that its last ranks leave out."""
    seen = np.zeros(dataset.source.catalog.samples, np.int64)
    state: dict[str, Any] | None = None
    for piece in range(pieces := int(random.integers(1, 4))):
        ranks, size = int(random.integers(1, 4)), int(random.integers(16, 65))
        loaders = [dataset.loader(batch_size=size, world=sw.World(rank, ranks), **options) for rank in range(ranks)]
        for loader in loaders:
            loader.load_state_dict(state or loader.state_at(0, epoch=epoch))
        stop = None if piece == pieces - 1 else int(random.integers(1, 1 + max(loaders[0].remaining, 1)))
        for step, batches in enumerate(zip(*loaders, strict=True), start=1):
            for batch in batches:
                real = ~batch["_pad"] if "_pad" in batch else slice(None)
                np.add.at(seen, batch["label"][real], 1)
                counts["batches"] += 1
            yield
            if step == stop:
                break
        states = [loader.state_dict() for loader in loaders]
        assert all(each == states[0] for each in states), f"states of {ranks} ranks differ: {states}"
        state = states[0]
        counts["resumed"] += piece > 0
        if state["epoch"] > epoch:
            break
    left = {"short": ranks - 1, "drop": ranks * size - 1, "pad": 0}[options.get("last", "short")]
    assert seen.max() == 1, f"{(seen > 1).sum()} samples came twice"
    assert 0 <= len(dataset) - int(seen.sum()) <= left, f"{seen.sum()} of {len(dataset)} samples came, {left} may be left out"
    counts["samples"] += int(seen.sum())


if __name__ == "__main__":
    main()
