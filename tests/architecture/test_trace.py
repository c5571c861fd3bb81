"""A trace of one batch: which of our functions hold its bytes between the file and the trainer, as docs/reader.md shows it."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

import shardwright as sw
from shardwright.reader.making import MadeBatch
from shardwright.schema import Field, Schema
from tests.conftest import ROOT
from tests.datasets import publish

LIBRARY = str(ROOT / "lib/shardwright")
MOST_FUNCTIONS_DEEP = 6
"""From the trainer's `next` on."""


class Trace:
    """What our functions of this and of new threads hold when they return or yield; comprehensions belong to their function."""

    def __init__(self) -> None:
        self.held: list[tuple[tuple[str, ...], list[np.ndarray[Any, Any]]]] = []
        self.threads: set[str] = set()

    def __enter__(self) -> Self:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, returned: Any) -> None:
        if event == "return" and ours(frame):
            self.threads.add(threading.current_thread().name)
            values = [returned, *(value for name, value in frame.f_locals.items() if name != "self")]
            self.held.append((stack(frame), [array for value in values for array in arrays(value)]))

    def of(self, batch: Mapping[str, np.ndarray[Any, Any]]) -> list[tuple[str, ...]]:
        """The stacks of our functions, each named once, that held memory of the batch: the one that returned first first."""
        found = [where for where, held in self.held if any(np.may_share_memory(a, b) for a in held for b in batch.values())]
        return list(dict.fromkeys(found))


def ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(LIBRARY) and not frame.f_code.co_name.startswith("<")


def stack(frame: FrameType | None) -> tuple[str, ...]:
    """Our functions, the outermost first."""
    names = []
    while frame is not None:
        if ours(frame):
            names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return tuple(reversed(names))


def arrays(value: Any, depth: int = 2) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays in a value, in the members of what it holds."""
    if isinstance(value, np.ndarray):
        yield value
    elif depth and isinstance(value, list | tuple | dict):
        for member in value.values() if isinstance(value, dict) else value:
            yield from arrays(member, depth - 1)
    elif depth and isinstance(value, MadeBatch):
        yield from arrays(value.batch, depth - 1)


def shown(stacks: list[tuple[str, ...]]) -> str:
    """Each function below its caller, those that got the bytes first first."""
    tree: dict[str, Any] = {}
    for where in stacks:
        node = tree
        for name in where:
            node = node.setdefault(name, {})
    return "".join(lines(tree, ""))


def lines(tree: dict[str, Any], indent: str) -> Iterator[str]:
    for name, below in tree.items():
        yield f"{indent}{name}\n"
        yield from lines(below, indent + "  ")


def test_a_batch_from_file_to_trainer(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (64, 128, 128, 3), np.uint8)  # large ones: a batch is made by itself
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(128, 128, 3)), Field(name="label", dtype="int64")))
    publish(tmp_path / "d", {"train": {"image": pictures, "label": np.arange(64)}}, schema)
    batches = iter(sw.open_dataset(tmp_path / "d").loader(batch_size=24, world=sw.World()))
    next(batches)  # works out the order of those that follow, and maps the parts
    with Trace() as trace:
        batch = next(batches)
    stacks = trace.of({"image": batch["image"]})
    told = shown(stacks)
    assert trace.threads == {threading.current_thread().name}, "nothing is handed to another thread"
    copying = stacks[0]
    assert (copying[0], copying[-1]) == ("Loader._rest_of_epoch", "_gather"), told
    assert max(map(len, stacks)) <= MOST_FUNCTIONS_DEEP, told
    documented = re.search(r"## From file to trainer\n.*?```text\n(.*?)```", (ROOT / "docs/reader.md").read_text(), re.S)
    assert documented is not None
    assert documented[1] == told, "docs/reader.md shows another trace"
