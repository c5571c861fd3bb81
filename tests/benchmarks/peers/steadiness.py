"""B8: memory over twenty epochs: it does not grow, and of remote parts it keeps within its limit.

The process that measures: python -m tests.benchmarks.peers.steadiness DATASET CASE
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.contenders import here, say
from tests.benchmarks.growth import FEW_ARENAS, Watch, at_rest, held, slope, trim
from tests.benchmarks.measure import ContenderError, measure
from tests.benchmarks.peers.contenders import PeerSettings
from tests.benchmarks.peers.counting import counting_files
from tests.benchmarks.peers.source import ARRAY_12K, PICTURE_256, Kind, write_source
from tests.benchmarks.report import report
from tests.benchmarks.table import table

_EPOCHS = 20
_WARM = 4
"""Epochs before those whose memory makes the slope: what is kept once, and the allocators' arenas."""
_EVERY_SECONDS = 0.05
_LIMIT = 256 * 2**20
_BESIDE = 192 * 2**20
"""What may come on top of the limit: batches in the making and with the trainer, decoders, the allocators."""
_MOST_PER_EPOCH = 1.0
_BATCH = 64
_SHARDS = 256
_TEXT = """## Memory

{epochs} epochs in one process, started once, batches of {batch}. *private* is what the process can't give back, above what it
had before it opened the dataset: pages of mapped files are not counted. *peak*: of what was seen every {every:g} ms. *slope*:
of private memory after each epoch, after `malloc_trim`, by least squares without the first {warm}, with its standard error.
Remote: the same files behind an fsspec file system, so that they are fetched, within `memory_limit_bytes` of {limit} MiB, by
one rank that serves all {shards} shards. Expected: a slope that is not above {most:g} MB an epoch by more than two standard
errors, and of remote datasets a peak of at most the limit and {beside} MiB, for batches in the making. `MALLOC_ARENA_MAX=2`,
but for the last line: glibc keeps freed memory in up to eight arenas a processor, which fill by and by; of that line nothing is
expected.
"""
_HEAD = ("", "stored, MB", "after an epoch, MB", "at the end, MB", "peak, MB", "fetched and held, MB", "slope, MB an epoch", "")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is read, how often over in one dataset, and how."""

    kind: Kind
    shards: int = 4
    copies: int = 1
    remote: bool = False
    few_arenas: bool = True
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "arrays 64x64x3, local, 0 threads": Case(kind=ARRAY_12K, options={"shuffle": "global"}),
    "JPEG 256x256, local, 2 threads": Case(kind=PICTURE_256, options={"threads": 2}),
    f"JPEG 256x256, remote, {_SHARDS} shards, window": Case(
        kind=PICTURE_256, shards=_SHARDS, copies=12, remote=True, options={"threads": 2}
    ),
    f"JPEG 256x256, remote, {_SHARDS} shards, global": Case(
        kind=PICTURE_256, shards=_SHARDS, copies=12, remote=True, options={"threads": 2, "shuffle": "global"}
    ),
    "the same, with all arenas": Case(
        kind=PICTURE_256,
        shards=_SHARDS,
        copies=12,
        remote=True,
        few_arenas=False,
        options={"threads": 2, "shuffle": "global"},
    ),
}


def run(settings: PeerSettings) -> str:
    """The Markdown of the group."""
    rows, problems = [], []
    for number, (name, case) in enumerate(CASES.items()):
        dataset = settings.work / f"{case.kind.name}-{case.shards}"
        if not dataset.exists():
            _write(dataset, case, settings)
        stored = sum(path.stat().st_size for path in dataset.rglob("*") if path.is_file())
        say(f"memory: {name}, {stored / 1e6:,.0f} MB")
        environment = here() | (FEW_ARENAS if case.few_arenas else {})
        command = [sys.executable, "-m", "tests.benchmarks.peers.steadiness", str(dataset), str(number)]
        found = measure(command, environment, settings.work).found
        if case.few_arenas:
            problems += [f"* {name}: {problem}" for problem in found["problems"]]
        rows.append(_row(name, case, stored, found))
    text = _TEXT.format(
        epochs=_EPOCHS, batch=_BATCH, every=1000 * _EVERY_SECONDS, warm=_WARM, limit=_LIMIT >> 20, shards=_SHARDS,
        most=_MOST_PER_EPOCH, beside=_BESIDE >> 20,
    )  # fmt: skip
    return "\n".join([text, table(_HEAD, rows), *problems, ""])


def _row(name: str, case: Case, stored: int, found: dict[str, Any]) -> tuple[str, ...]:
    verdict = "**not as expected**" if found["problems"] else "as expected"
    return (
        name,
        f"{stored / 1e6:,.0f}",
        *(f"{found[what] / 1e6:,.0f}" for what in ("first", "last", "peak", "held_bytes")),
        f"{found['slope']:+.2f} ± {found['error']:.2f}",
        verdict if case.few_arenas else "",
    )


def _write(dataset: Path, case: Case, settings: PeerSettings) -> None:
    """The samples of the kind, each stored `copies` times, numbered anew."""
    from shardwright.schema import Field, Schema
    from tests.datasets import publish

    samples = max(round(case.kind.samples * settings.scale) // _BATCH, 4) * _BATCH
    source = write_source(settings.work / f"source-{dataset.name}", replace(case.kind, samples=samples))
    picture = case.kind.content == "picture"
    values: Any = source.pictures() * case.copies if picture else source.values
    label = np.arange(samples * case.copies)
    shape = (None, None, 3) if picture else case.kind.shape
    value = (
        Field(name="value", dtype="uint8", shape=shape, codec="image")
        if picture
        else Field(name="value", dtype="uint8", shape=shape)
    )
    publish(
        dataset, {"train": {"value": values, "label": label}}, Schema(fields=(value, Field(name="label", dtype="int64"))),
        shards=case.shards, part_samples=len(label), row_group_samples=1024, block_samples=32, window_blocks=4,
    )  # fmt: skip


def main() -> None:
    """Read, and report what was held."""
    import shardwright

    path, case = sys.argv[1], list(CASES.values())[int(sys.argv[2])]
    with counting_files():
        _epoch(shardwright.open_dataset(path, split="train").loader(batch_size=_BATCH, **case.options), most=2)  # imports
        at_rest()
        trim()
        before = held().private
        dataset = shardwright.open_dataset(f"counting://{path}" if case.remote else path, split="train")
        loader = dataset.loader(batch_size=_BATCH, world=shardwright.World(), memory_limit_bytes=_LIMIT, **case.options)
        ends = []
        with Watch(_EVERY_SECONDS) as watch:
            for _ in range(_EPOCHS):
                if (found := _epoch(loader)) != len(dataset):
                    raise ContenderError(f"expected an epoch of {len(dataset)} samples, found {found}")
                at_rest()
                trim()
                ends.append(held().private - before)
    grown = slope(range(_WARM, _EPOCHS), [each / 1e6 for each in ends[_WARM:]])
    peak = max([*(each.private - before for each in watch.noted), *ends])
    problems = [] if grown.below(_MOST_PER_EPOCH) else [f"it grows by {grown.value:.2f} ± {grown.error:.2f} MB an epoch"]
    if case.remote and peak > _LIMIT + _BESIDE:
        problems.append(f"a peak of {peak / 2**20:.0f} MiB, expected at most {(_LIMIT + _BESIDE) >> 20}")
    report(
        {}, first=ends[0], last=ends[-1], peak=peak, slope=grown.value, error=grown.error, problems=problems,
        held_bytes=loader.metrics().held_bytes,
    )  # fmt: skip


def _epoch(loader: Any, most: int | None = None) -> int:
    """The samples of an epoch, or of its first batches: every one once."""
    labels = []
    for number, batch in enumerate(loader, start=1):
        labels.append(batch["label"])
        if number == most:
            break
    return len(np.unique(np.concatenate(labels)))


if __name__ == "__main__":
    main()
