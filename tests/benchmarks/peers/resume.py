"""B5: shardwright resumes late in an epoch of many samples, and with other world sizes.

The process that measures: python -m tests.benchmarks.peers.resume DATASET
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from tests.benchmarks.contenders import here, say
from tests.benchmarks.measure import measure
from tests.benchmarks.peers.contenders import SHARDWRIGHT, PeerSettings, start
from tests.benchmarks.peers.process import Job
from tests.benchmarks.peers.source import Kind, write_source
from tests.benchmarks.report import now, report
from tests.benchmarks.table import spread, table

_KIND = Kind(name="many", content="table", samples=10_000_000, shape=(1,), batch=1000)
_ROUNDS = 11
_WORLDS = ((4, 0.3), (3, 0.6), (8, 0.9), (2, 1.0))
"""How many ranks read, until which share of the epoch."""
_TEXT = """## Resume

{samples:,} samples of one float32 and a label, in a global order. A new loader gets the state at the start or at 90 % of an
epoch; timed is until its first batch of 1,000 is there, {rounds} times each in turn. Then one epoch is read by {worlds} ranks
in turn, each world from the state that the one before it saved.
"""


def run(settings: PeerSettings) -> str:
    """The Markdown of the group."""
    kind = replace(_KIND, samples=settings.scaled(_KIND.samples, _KIND.batch * 8))
    say(f"resume: {kind.samples:,} samples")
    source, store = write_source(settings.work / "source", kind), settings.work / "store"
    start(SHARDWRIGHT, Job(verb="convert", reader="ours", source=str(source.folder), store=str(store)), settings.work)
    command = [sys.executable, "-m", "tests.benchmarks.peers.resume", str(store)]
    found = measure(command, here(), settings.work).found
    rows = [(name, spread((1000 * value for value in values), 1)) for name, values in found["seconds"].items()]
    text = _TEXT.format(samples=kind.samples, rounds=_ROUNDS, worlds=", ".join(str(world) for world, _ in _WORLDS))
    lost = f"Lost: {found['lost']:,}. Given twice: {found['twice']:,}. Read: {found['read']:,} of {kind.samples:,}.\n"
    return f"{text}\n{table(('', 'first batch, ms'), rows)}\n{lost}"


def main() -> None:
    import shardwright

    dataset = shardwright.open_dataset(sys.argv[1], split="train")
    total = len(dataset)
    seconds: dict[str, list[float]] = {"at the start": [], "at 90 %": []}
    late = total * 9 // 10 // _KIND.batch * _KIND.batch
    for round_ in range(1 + _ROUNDS):
        for name, consumed in zip(seconds, (0, late), strict=True):
            loader = _loader(dataset, 0, 1)
            state = loader.state_at(consumed, epoch=0)
            began = now()
            loader.load_state_dict(state)
            next(iter(loader))
            if round_:
                seconds[name].append(now() - began)
    counts = np.zeros(total, np.int64)
    state = _loader(dataset, 0, 1).state_at(0, epoch=0)
    for world, share in _WORLDS:
        if state["epoch"] == 0:  # few samples may be through before the last world
            state = _read(dataset, world, state, share * total, counts)
    report(
        {}, seconds=seconds, lost=int((counts == 0).sum()), twice=int((counts > 1).sum()), read=int(counts.sum())
    )  # fmt: skip


def _read(dataset: Any, world: int, state: dict[str, Any], until: float, counts: Any) -> dict[str, Any]:
    """All ranks of a world from `state`; their state, the same on all, when so many samples of the epoch are consumed."""
    loaders = [_loader(dataset, rank, world) for rank in range(world)]
    for loader in loaders:
        loader.load_state_dict(state)
    for batches in zip(*loaders, strict=True):
        for batch in batches:
            np.add.at(counts, batch["label"], 1)
        states = [loader.state_dict() for loader in loaders]
        if any(each != states[0] for each in states):
            raise AssertionError(f"states of {world} ranks differ: {states}")
        if states[0]["epoch"] == 0 and states[0]["samples_consumed"] >= until:
            break
    return loaders[0].state_dict()


def _loader(dataset: Any, rank: int, world: int) -> Any:
    import shardwright

    return dataset.loader(
        batch_size=_KIND.batch, world=shardwright.World(rank=rank, size=world), seed=1, shuffle="global", last="short"
    )  # fmt: skip


if __name__ == "__main__":
    main()
