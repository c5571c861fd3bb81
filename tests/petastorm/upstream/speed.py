"""The drop-in beside stock Petastorm, each in its own environment, in turn, on the same datasets."""

from __future__ import annotations

import statistics
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
from tests.benchmarks.contenders import environment, fresh, here
from tests.benchmarks.measure import ContenderError
from tests.benchmarks.measure import measure as measured_process
from tests.petastorm.upstream.suite import stock

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
class Round:
    """Of one process: the median of its passes' rows a second; MiB of private memory, its peak and what its imports took.

    Looked at from outside, five times a second. Not `ru_maxrss`: a process begins with that of the one that started it.
    """

    rate: float
    peak_mib: float
    imports_mib: float

    @property
    def mib(self) -> float:
        """Above what imports took."""
        return self.peak_mib - self.imports_mib


@dataclass(frozen=True)
class Measured:
    """Of each round, the two side by side."""

    case: Case
    stock: list[Round]
    ours: list[Round]

    @property
    def ratios(self) -> list[float]:
        """Ours to stock's rows a second, of each round."""
        return [one.rate / other.rate for one, other in zip(self.ours, self.stock, strict=True)]


def measure(folder: Path) -> list[Measured]:
    """All cases, on datasets that are written to `folder` first."""
    write_datasets(folder)
    contenders = ((stock().python, "petastorm"), (sys.executable, "shardwright.petastorm"))
    found = []
    for case in CASES:
        rounds: tuple[list[Round], list[Round]] = ([], [])
        for _ in range(_ROUNDS):
            for (python, package), into in zip(contenders, rounds, strict=True):
                into.append(_round(python, package, case, folder))
        found.append(Measured(case, *rounds))
        ratios = found[-1].ratios
        print(f"{case.title}: {statistics.median(ratios):.1f} times ({min(ratios):.1f}-{max(ratios):.1f})", flush=True)
    return found


def _round(python: str, package: str, case: Case, folder: Path) -> Round:
    """A process of its own. Raises ContenderError, also where rows are missing."""
    module, url = "tests.petastorm.upstream.speed_reader", (folder / case.dataset).as_uri()
    command = [python, "-m", module, package, case.kind, url, case.pool, str(case.capacity), str(_PASSES)]
    run = measured_process(command, environment(python) if package == "petastorm" else here(), fresh(folder / "run"))
    expected = sum(pq.read_metadata(path).num_rows for path in (folder / case.dataset).glob("*.parquet"))
    if wrong := [rows for rows in run.found["rows"] if rows != expected]:
        raise ContenderError(f"{package}, {case.title}: expected passes of {expected} rows, found one of {wrong[0]}")
    imports = run.found["imports_bytes"]
    return Round(statistics.median(run.found["rates"]), run.peaks.private / 2**20, imports / 2**20)


def write_datasets(folder: Path) -> None:
    """Arrays with a Unischema, and a plain table, in row groups of 2 to 12 MB."""
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
