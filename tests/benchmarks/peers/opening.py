"""B9: how many requests, and how long, until a dataset of many row groups is open and its first batch is there.

The process that measures: python -m tests.benchmarks.peers.opening DATASET ROUNDS
"""

from __future__ import annotations

import sys

import numpy as np

from tests.benchmarks.contenders import here, say
from tests.benchmarks.measure import measure
from tests.benchmarks.peers.contenders import PeerSettings
from tests.benchmarks.peers.counting import counting_files
from tests.benchmarks.report import now, report
from tests.benchmarks.table import spread, table
from tests.datasets import digits, publish

_ROW_GROUPS = (10, 1000, 10_000)
_SHARDS = 10
_BATCH = 8
_AGAIN = 10
_TEXT = """## Start

Arrays of 8x8 and a label in {shards} shards, in row groups of one sample each, a batch of {batch}. Seconds: from `open_dataset`
until it returns, and until the first batch is there; of a new process, with what it imports, and {again} times more in the same
process, on a local path, in {rounds} processes. Requests are counted by an fsspec file system below the reader: files or ranges
of them, and others (information, listings).
"""
_HEAD = (
    "row groups", "requests to open", "others", "requests to the first batch", "others", "open, first, s", "batch, first, s",
    "open, again, s", "batch, again, s",
)  # fmt: skip


def run(settings: PeerSettings) -> str:
    """The Markdown of the group."""
    lines = []
    for wanted in _ROW_GROUPS:
        rows = max(round(wanted * settings.scale), _SHARDS) // _SHARDS * _SHARDS
        say(f"start: {rows:,} row groups")
        dataset = settings.work / f"groups-{wanted}"
        publish(dataset, {"train": digits(rows)}, shards=_SHARDS, part_samples=rows, row_group_samples=1)
        found = []
        for round_ in range(settings.rounds):
            command = [sys.executable, "-m", "tests.benchmarks.peers.opening", str(dataset), str(_AGAIN)]
            found.append(measure(command, here(), settings.work).found)
            say(f"  round {round_ + 1}/{settings.rounds} {found[-1]['requests']}")
        (row_groups,) = {each["row_groups"] for each in found}
        requests = [spread((each["requests"][number] for each in found), 0) for number in range(4)]
        seconds = [
            spread((value[number] for each in found for value in times(each["seconds"])), 3)
            for times in (lambda all_: all_[:1], lambda all_: all_[1:])
            for number in range(2)
        ]
        lines.append((f"{row_groups:,}", *requests, *seconds))
    return f"{_TEXT.format(shards=_SHARDS, batch=_BATCH, again=_AGAIN, rounds=settings.rounds)}\n{table(_HEAD, lines)}"


def main() -> None:
    """Count and time."""
    began = now()
    import shardwright

    path, again = sys.argv[1], int(sys.argv[2])
    seconds = []
    for _ in range(1 + again):
        dataset = shardwright.open_dataset(path, split="train")
        opened = now()
        batch = next(iter(dataset.loader(batch_size=_BATCH, world=shardwright.World())))
        seconds.append((opened - began, now() - began))
        began = now()
    with counting_files() as files:
        remote = shardwright.open_dataset(f"counting://{path}", split="train")
        requests = [files.reads, files.others]
        there = next(iter(remote.loader(batch_size=_BATCH, world=shardwright.World(), threads=0)))
        requests += [files.reads, files.others]
    if not np.array_equal(batch["label"], there["label"]):
        raise AssertionError("the remote dataset has another first batch")
    report({}, seconds=seconds, requests=requests, row_groups=len(dataset.source.catalog.row_groups.samples))


if __name__ == "__main__":
    main()
