"""Open: how many files are read, and how long it takes, to open a dataset of many row groups.

The process that measures: python -m tests.benchmarks.opening DATASET ROUNDS
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tests.benchmarks.contenders import Settings, keep, ours, say, start, start_reader
from tests.benchmarks.idx import write_idx
from tests.benchmarks.report import now, report
from tests.benchmarks.table import spread, table

_ROW_GROUPS = 10_000
_SHAPE = (28, 28)
_SHARDS = 100
_ROUNDS = 10
_TEXT = """## Open

A dataset of {row_groups:,} row groups of one sample each, in {shards} shards. Files read, and other requests (information,
listings), are counted by an fsspec file system below the reader. Seconds are those of `open_dataset` on a local path: the first
one of a new process, which also imports what it needs, and {rounds} more, in {repeats} processes.
"""


class CountingFileSystem(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Local files under counting:///path; notes which are opened, and what else is asked."""

    protocol = "counting"
    opened: ClassVar[list[str]] = []
    others: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("counting://"))

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self.opened.append(path)
        return super()._open(path, *args, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self.others.append(path)
        return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        self.others.append(path)
        return super().ls(path, detail=detail, **kwargs)


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    rows = max(round(_ROW_GROUPS * settings.scale) // _SHARDS, 1) * _SHARDS
    say(f"open: {rows:,} row groups")
    source = write_idx(settings.work / "small", rows, _SHAPE)
    measured, _ = start(ours(_SHARDS, row_group_bytes=1), source, settings.work)
    dataset = keep(measured, settings.work / "dataset")
    found = []
    for repeat in range(settings.repeats):
        found.append(start_reader("opening", str(dataset), str(_ROUNDS), work=settings.work).found)
        say(f"  {repeat + 1}/{settings.repeats} {found[-1]}")
    (row_groups,) = {each["row_groups"] for each in found}
    rows_of_table = [
        (
            f"{row_groups:,}",
            spread((each["files_read"] for each in found), 0),
            spread((each["other_requests"] for each in found), 0),
            spread((each["seconds"][0] for each in found), 3),
            spread((second for each in found for second in each["seconds"][1:]), 3),
        )
    ]
    text = _TEXT.format(row_groups=row_groups, shards=_SHARDS, rounds=_ROUNDS, repeats=settings.repeats)
    head = ("row groups", "files read", "other requests", "first, s", "again, s")
    return f"{text}\n{table(head, rows_of_table)}"


def main() -> None:
    """Count and time."""
    import shardwright

    path, rounds = sys.argv[1], int(sys.argv[2])
    seconds = []
    for _ in range(rounds + 1):
        began = now()
        dataset = shardwright.open_dataset(path, split="train")
        seconds.append(now() - began)
    fsspec.register_implementation("counting", CountingFileSystem)
    shardwright.open_dataset(f"counting://{path}", split="train")
    report(
        {}, seconds=seconds, row_groups=len(dataset.source.catalog.row_groups.samples),
        files_read=len(CountingFileSystem.opened), other_requests=len(CountingFileSystem.others),
    )  # fmt: skip


if __name__ == "__main__":
    main()
