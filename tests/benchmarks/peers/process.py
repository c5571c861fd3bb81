"""One contender at one task, in its own environment: python -m tests.benchmarks.peers.process JOB, a `Job` as JSON."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tests.benchmarks.process_tree import tree_cpu_seconds
from tests.benchmarks.report import VARIABLE, now, report

Batch = Mapping[str, Any]
Epochs = Callable[[int], Iterable[Batch]]
"""The batches of an epoch: "value" (n, …), or a table's columns (n,) by name or as "value" (n, columns); "label" (n,)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process is to do. `verb` names the function below."""

    verb: Literal["convert", "epochs", "random", "ranks", "rank"]
    reader: str
    source: str
    store: str
    workers: int = 0
    normalise: bool = False
    variant: str = ""
    most_epochs: int = 5
    most_seconds: float = 5.0
    indexes: int = 2000
    worlds: tuple[int, ...] = ()
    rank: int = 0
    world: int = 1


class Reader(Protocol):
    """What a module in readers/ has; `random` and `rank` where it is measured in these groups."""

    def convert(self, job: Job) -> None:
        """Write the source into `job.store`, which does not exist, in the reader's own format."""

    def epochs(self, job: Job) -> Epochs:
        """Open the store."""

    def random(self, job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
        """Open the store; functions that give one sample's value, and several as one array."""

    def rank(self, job: Job) -> Iterable[int]:
        """The labels that rank `job.rank` of `job.world` gets in an epoch, workers or not."""


def main() -> None:
    warnings.filterwarnings("ignore")  # those of libraries about each other
    job = Job(**json.loads(sys.argv[1]))
    reader = importlib.import_module(f"tests.benchmarks.peers.readers.{job.reader}")
    verbs = {"convert": _convert, "epochs": _epochs, "random": _random, "ranks": _ranks, "rank": _rank}
    verbs[job.verb](reader, job)


def command(python: str, job: Job) -> list[str]:
    """What starts it."""
    return [python, "-m", "tests.benchmarks.peers.process", json.dumps(asdict(job))]


def _convert(reader: Reader, job: Job) -> None:
    reader.convert(job)
    size = sum(path.stat().st_size for path in Path(job.store).rglob("*") if path.is_file())
    report({}, bytes=size)


def _epochs(reader: Reader, job: Job) -> None:
    """One epoch that starts the workers and is checked; then epochs that are timed, from `iter()` on."""
    began = now()
    epochs = reader.epochs(job)
    first = None
    labels, total = [], 0.0
    for batch in epochs(0):
        first = first or now() - began
        label = np.asarray(batch["label"]).astype(np.int64)
        labels.append(label)
        total += _checksum(batch, label)
    shuffle = shuffle_quality(np.concatenate(labels), len(labels[0]))
    numbers = np.sort(np.concatenate(labels))
    seconds: list[float] = []
    cpu = tree_cpu_seconds(os.getpid())
    while len(seconds) < job.most_epochs and sum(seconds) < job.most_seconds:
        batches = epochs(1 + len(seconds))
        start, samples = now(), 0
        for batch in batches:
            samples += len(batch["label"])
        seconds.append(now() - start)
        if samples != len(numbers):
            raise AssertionError(f"expected an epoch of {len(numbers)} samples, found {samples}")
    spent = tree_cpu_seconds(os.getpid()) - cpu
    report(
        {}, seconds=seconds, cpu_seconds=spent / max(len(seconds), 1), first_batch_seconds=first, samples=len(numbers),
        distinct=len(np.unique(numbers)), checksum=total, shuffle=shuffle,
    )  # fmt: skip


def shuffle_quality(numbers: npt.NDArray[np.int64], batch: int) -> list[float]:
    """Of the order in which numbered samples came: what `shuffle_quality.py` shows."""
    count = len(numbers)
    neighbours = np.corrcoef(numbers[:-1], numbers[1:])[0, 1]
    sources = numbers * 100 // count
    means = numbers[: count // batch * batch].reshape(-1, batch).mean(axis=1)
    expected = np.sqrt((count**2 - 1) / 12 / batch * (count - batch) / max(count - 1, 1))
    displaced = np.abs(numbers - np.arange(count)).mean() / count
    return [float(neighbours), float((sources[:-1] == sources[1:]).mean()), float(displaced), float(means.std() / expected)]


def _checksum(batch: Batch, label: Any) -> float:
    """Ties each sample's content to its number; the same for a table by columns and by rows."""
    values = [np.asarray(value) for name, value in batch.items() if name != "label"]
    rows = sum(value.reshape(len(label), -1).sum(axis=1, dtype=np.float64) for value in values)
    return float(rows @ (label + 1.0))


def _random(reader: Reader, job: Job) -> None:
    """Samples one by one and at once, after both were done with other indexes."""
    one, many = reader.random(job)
    samples = json.loads((Path(job.source) / "kind.json").read_text(encoding="utf-8"))["samples"]
    random = np.random.default_rng(1)
    count = min(job.indexes, samples)
    single: list[float] = []
    together: list[float] = []
    total = 0.0
    for round_ in range(1 + job.most_epochs):
        chosen = random.choice(samples, count, replace=False).tolist()
        start = now()
        for index in chosen:
            one(index)
        middle = now()
        found = np.asarray(many(chosen))
        if round_:
            single.append(middle - start)
            together.append(now() - middle)
        total += float(found.reshape(count, -1).sum(axis=1, dtype=np.float64) @ np.arange(1.0, count + 1))
        if not np.array_equal(np.asarray(one(chosen[-1])), found[-1]):
            raise AssertionError(f"sample {chosen[-1]} differs when it is read alone")
    report({}, one=single, many=together, count=count, checksum=total)


def _ranks(reader: Reader, job: Job) -> None:
    """For each world its ranks, as processes of their own that find each other as torchrun's do."""
    found: dict[int, list[list[int]]] = {}
    for world in job.worlds:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        common = {
            "WORLD_SIZE": world,
            "LOCAL_WORLD_SIZE": world,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "NODE_RANK": 0,
        }
        files = [Path(job.store).with_name(f"{job.reader}-{world}-{rank}.json") for rank in range(world)]
        started = []
        for rank, file in enumerate(files):
            own = {**common, "RANK": rank, "LOCAL_RANK": rank, VARIABLE: file}
            mine = replace(job, verb="rank", rank=rank, world=world)
            environment = os.environ | {name: str(value) for name, value in own.items()}
            started.append(subprocess.Popen(command(sys.executable, mine), env=environment))
        codes = [process.wait() for process in started]
        if any(codes):
            raise AssertionError(f"a rank of {world} failed; what it printed stands above")
        found[world] = [json.loads(file.read_text(encoding="utf-8"))["found"]["labels"] for file in files]
    report({}, worlds=found)


def _rank(reader: Reader, job: Job) -> None:
    report({}, labels=[int(label) for label in reader.rank(job)])


if __name__ == "__main__":
    main()
