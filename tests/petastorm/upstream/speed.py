"""The drop-in beside stock Petastorm, each in its own environment, in turn, on the same datasets."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.petastorm.codecs import NdarrayCodec
from shardwright.petastorm.etl.dataset_metadata import write_metadata
from shardwright.petastorm.files import open_files
from shardwright.petastorm.unischema import Unischema, UnischemaField
from tests.benchmarks.peers.environments import python_of
from tests.petastorm.conftest import oracle_environment
from tests.petastorm.upstream.suite import ROOT

_ROUNDS, _PASSES = 3, 3
_FILES = 4


@dataclass(frozen=True)
class Case:
    """Something to read, and how."""

    title: str
    dataset: str
    kind: str
    pool: str
    capacity: int = 0
    goal: float = 5.0


CASES = (
    Case("make_reader, arrays of 3 kB, dummy pool", "arrays-3k", "rows", "dummy"),
    Case("make_reader, arrays of 3 kB, 2 threads", "arrays-3k", "rows", "thread"),
    Case("make_reader, arrays of 12 kB, dummy pool", "arrays-12k", "rows", "dummy"),
    Case("make_reader, arrays of 12 kB, 2 threads", "arrays-12k", "rows", "thread"),
    Case("make_batch_reader, BatchedDataLoader", "table", "batches", "thread", goal=3.0),
    Case("the same, a shuffling queue of 10,000", "table", "batches", "thread", 10_000, goal=3.0),
)


@dataclass(frozen=True)
class Measured:
    """Rows a second of each round's passes, and MiB of memory above what imports took."""

    case: Case
    stock: list[float]
    ours: list[float]
    stock_mib: float
    ours_mib: float

    @property
    def ratios(self) -> list[float]:
        """Ours to stock's, of each round, by its medians."""
        return [one / other for one, other in zip(self.ours, self.stock, strict=True)]


def measure(folder: Path) -> list[Measured]:
    """All cases, on datasets that are written to `folder` first."""
    write_datasets(folder)
    found = []
    for case in CASES:
        stock, ours, memory = [], [], ([0.0], [0.0])
        for _ in range(_ROUNDS):
            for place, (python, package, rates) in enumerate(
                ((python_of("petastorm-torch"), "petastorm", stock), (sys.executable, "shardwright.petastorm", ours))
            ):
                said = _run(python, package, case, (folder / case.dataset).as_uri())
                rates.append(statistics.median(said["rates"]))
                memory[place].append(said["mib"])
        found.append(Measured(case, stock, ours, max(memory[0]), max(memory[1])))
        ratios = found[-1].ratios
        print(f"{case.title}: {statistics.median(ratios):.1f} times ({min(ratios):.1f}-{max(ratios):.1f})", flush=True)
    return found


def _run(python: str, package: str, case: Case, url: str) -> dict[str, list[float] | float] | dict:  # type: ignore[type-arg]
    command = [python, "-m", "tests.petastorm.upstream.speed_reader", package, case.kind, url, case.pool]
    environment = oracle_environment()
    if package != "petastorm":
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT / "lib"), str(ROOT)))
    done = subprocess.run(
        [*command, str(case.capacity), str(_PASSES)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_datasets(folder: Path) -> None:
    """Arrays with a Unischema, and a plain table, in row groups of 4 to 25 MB."""
    generator = np.random.default_rng(0)
    for name, rows, shape in (("arrays-3k", 20_000, (28, 28)), ("arrays-12k", 8_000, (3072,))):
        (folder / name).mkdir()
        field = UnischemaField("x", np.float32, shape, NdarrayCodec(), False)
        for number in range(_FILES):
            ids = np.arange(number, rows, _FILES)
            cells = [bytes(NdarrayCodec().encode(field, generator.random(shape, np.float32))) for _ in ids]
            table = pa.table({"id": pa.array(ids), "x": pa.array(cells, pa.binary())})
            pq.write_table(table, folder / name / f"part-{number}.parquet", row_group_size=1000, use_dictionary=False)
        write_metadata(open_files(str(folder / name)), Unischema("Speed", [UnischemaField("id", np.int64, ()), field]))
    (folder / "table").mkdir()
    for number in range(_FILES):
        rows = 100_000
        columns = {f"c{place}": pa.array(generator.random(rows, np.float32)) for place in range(8)}
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(generator.random(rows * 16, np.float32)), 16)
        columns |= {"label": pa.array(generator.integers(0, 10, rows)), "v": vectors.cast(pa.list_(pa.float32()))}
        path = folder / "table" / f"part-{number}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=25_000, store_schema=False)
