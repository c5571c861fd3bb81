"""Read: whole epochs from a prepared dataset, next to `numpy.take` on the same bytes in memory.

The process that measures: python -m tests.benchmarks.reading DATASET ROUNDS
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tests.benchmarks.contenders import Settings, keep, ours, say, start, start_reader
from tests.benchmarks.idx import write_idx
from tests.benchmarks.report import now, report
from tests.benchmarks.table import ratios, spread, table

_ROWS = 50_000
_SHAPE = (32, 32, 3)
_BATCH = 256
_SHARDS = 4
_ROUNDS = 7
_TAKE = "numpy.take"
_TEXT = """## Read

{rows:,} arrays of 32x32x3 and their labels, prepared by shardwright in {shards} shards; batches of {batch}, one process, all
in the page cache. `numpy.take` gathers images alone, from one array of shape ({rows}, 3072) in memory, by a random permutation
made before the clock starts; the loader works out its order, finds image and label in the mapped files and returns decoded
arrays. One warm-up epoch, then {rounds} of each in turn, in {repeats} processes; the last column is the speed compared with
`numpy.take` in the same round: above 1, the loader is faster.
"""


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    rows = settings.scaled(_ROWS, at_least=_BATCH * _SHARDS)
    say(f"read: {rows:,} arrays of 32x32x3")
    measured, _ = start(ours(_SHARDS), write_idx(settings.work / "input", rows, _SHAPE), settings.work)
    dataset = keep(measured, settings.work / "dataset")
    seconds: dict[str, list[float]] = {}
    for repeat in range(settings.repeats):
        found = start_reader("reading", str(dataset), str(_ROUNDS), work=settings.work).found["seconds"]
        for name, values in found.items():
            seconds.setdefault(name, []).extend(values)
        middle = {name: rows / statistics.median(values) for name, values in found.items()}
        say(f"  {repeat + 1}/{settings.repeats} " + ", ".join(f"{name} {speed:,.0f}/s" for name, speed in middle.items()))
    lines = [
        (name, spread((rows / value for value in values), 0), "" if name == _TAKE else ratios(seconds[_TAKE], values))
        for name, values in seconds.items()
    ]
    text = _TEXT.format(rows=rows, shards=_SHARDS, batch=_BATCH, rounds=_ROUNDS, repeats=settings.repeats)
    return f"{text}\n{table(('', 'samples/s', f'of `{_TAKE}`'), lines)}"


def main() -> None:
    """Time epochs of every way to read the dataset, in turn."""
    import shardwright

    url, rounds = sys.argv[1], int(sys.argv[2])
    dataset = shardwright.open_dataset(url, split="train")
    images = np.ascontiguousarray(dataset.take(np.arange(len(dataset)))["image"]).reshape(len(dataset), -1)
    load = functools.partial(dataset.loader, batch_size=_BATCH, world=shardwright.World(), seed=1, last="short")
    alone = shardwright.open_dataset(url, split="train", columns=["image"]).loader
    ways: dict[str, Callable[[int], Iterable[Any]]] = {
        _TAKE: functools.partial(_take, images),
        'shuffle="global"': _epochs(load(shuffle="global")),
        'shuffle="global", image alone': _epochs(alone(batch_size=_BATCH, world=shardwright.World(), seed=1, shuffle="global")),
        'shuffle="window"': _epochs(load(shuffle="window")),
        'shuffle="none"': _epochs(load(shuffle="none")),
        'shuffle="global", normalised float32': _epochs(load(shuffle="global", normalise=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(rounds + 1):
        names = list(ways)
        for name in names[epoch % len(names) :] + names[: epoch % len(names)]:
            spent = _seconds(ways[name](epoch), len(dataset))
            if epoch:  # the first warms up
                seconds[name].append(spent)
    report({}, seconds=seconds)


def _take(images: np.ndarray, epoch: int) -> Iterable[Any]:
    """Batches of one epoch; the permutation is made now, the batches as they are asked for."""
    order = np.random.default_rng(epoch).permutation(len(images))

    def batches() -> Iterator[Any]:
        for first in range(0, len(order), _BATCH):
            yield {"image": np.take(images, order[first : first + _BATCH], axis=0)}

    return batches()


def _epochs(loader: Iterable[Any]) -> Callable[[int], Iterable[Any]]:
    return lambda _: loader


def _seconds(batches: Iterable[Any], expected: int) -> float:
    began = now()
    samples = 0
    for batch in batches:
        samples += len(batch["image"])
    spent = now() - began
    if samples != expected:
        raise AssertionError(f"expected an epoch of {expected} samples, found {samples}")
    return spent


if __name__ == "__main__":
    main()
