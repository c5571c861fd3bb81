"""Who is measured, and how each is started: in its environment, on fresh folders, with as much memory as it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.measure import ContenderError, Run, measure
from tests.benchmarks.report import now

ROOT = Path(__file__).resolve().parents[2]
FILES = 8
OURS = "shardwright"
_MEMORIES = ("2g", "4g", "8g")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says."""

    work: Path
    scale: float
    repeats: int
    petastorm_python: str | None
    petastorm_repartition: bool

    def scaled(self, rows: int, at_least: int = 160) -> int:
        """So many rows of `rows`, a multiple of the number of files, so that every contender writes all of them."""
        return max(round(rows * self.scale), at_least) // FILES * FILES


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that reads one folder and writes another. `command` gets input, output and the driver's memory."""

    name: str
    command: Callable[[Path, Path, str], list[str]]
    environment: Mapping[str, str]
    memory: str = _MEMORIES[0]
    spark: bool = True


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One start: its cost, and how long the disk took afterwards to get what was still in memory."""

    run: Run
    sync_seconds: float
    output: Path


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def ours(shards: int = FILES, row_group_bytes: int | None = None, read_format: str = "idx") -> Contender:
    """shardwright itself."""
    more = ["--shards", str(shards), *(["--row-group-bytes", str(row_group_bytes)] if row_group_bytes else [])]
    more += ["--format", read_format]
    return Contender(
        name=OURS, command=lambda *where: _module(sys.executable, "ours", *where) + more, environment=here()
    )  # fmt: skip


def plain_spark() -> Contender:
    """Spark's own writer, on the same pyspark."""
    more = ["--files", str(FILES)]
    return Contender(
        name=f"Spark, `repartition({FILES}).write.parquet`",
        command=lambda *where: _module(sys.executable, "plain_spark", *where) + more,
        environment=here(),
    )


def binary_file(*, write: bool) -> Contender:
    """Spark's source of whole files, on the same pyspark: read alone, or written by Spark's own writer."""
    reader = 'Spark, `format("binaryFile")`'
    return Contender(
        name=f"{reader}, `repartition({FILES}).write.parquet`" if write else f"{reader}, read and dropped (`noop`)",
        command=lambda *where: _module(sys.executable, "binary_file", *where) + (["--files", str(FILES)] if write else []),
        environment=here(),
    )


def stock_petastorm(python: str, *, repartition: bool = False) -> Contender:
    """Stock Petastorm in its own environment."""
    more = ["--files", str(FILES), *(["--repartition"] if repartition else [])]
    return Contender(
        name="stock Petastorm" + (f", `repartition({FILES})` first" if repartition else ", rows not shuffled"),
        command=lambda *where: _module(python, "stock_petastorm", *where) + more,
        environment=environment(python),
    )


def dd() -> Contender:
    """The same bytes copied, from memory into a file."""
    return Contender(
        name="`dd bs=1M`",
        command=lambda source, output, _: ["dd", f"if={next(source.glob('images-*'))}", f"of={output}", "bs=1M"],
        environment=dict(os.environ),
        spark=False,
    )


def start(contender: Contender, source: Path, work: Path) -> tuple[Measured, Contender]:
    """Run it once; the contender as it should be started next: with more memory, where it needed that.

    The output stays; `forget` removes it. Raises ContenderError when it fails with the most memory.
    """
    for memory in _MEMORIES[_MEMORIES.index(contender.memory) :]:
        folder = fresh(work / "run")
        local = folder / "spark"
        local.mkdir()
        os.sync()
        try:
            run = measure(
                contender.command(source, folder / "output", memory),
                {**contender.environment, "SPARK_LOCAL_DIRS": str(local)}, folder,
            )  # fmt: skip
        except ContenderError as error:
            if not contender.spark or memory == _MEMORIES[-1]:
                raise ContenderError(f"{contender.name}, driver memory {memory}: {error}") from error
            say(f"  {contender.name} failed with driver memory {memory}, trying more: {error}")
            continue
        shutil.rmtree(local)
        began = now()
        os.sync()
        return Measured(run=run, sync_seconds=now() - began, output=folder / "output"), replace(contender, memory=memory)
    raise AssertionError("unreachable")


def start_reader(module: str, *arguments: str, work: Path) -> Run:
    """Run a module of this package as a process of its own."""
    return measure([sys.executable, "-m", f"tests.benchmarks.{module}", *arguments], here(), fresh(work / "run"))


def forget(measured: Measured) -> None:
    """Remove what a contender wrote."""
    shutil.rmtree(measured.output.parent)


def keep(measured: Measured, folder: Path) -> Path:
    """Move what a contender wrote to `folder`."""
    measured.output.rename(folder)
    forget(measured)
    return folder


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def petastorm_python() -> str:
    """The Python of stock Petastorm's environment, which is made first where there is none yet."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    if sys.version_info[:2] == (3, 11):
        environment.setdefault("ORACLE_PYTHON", sys.executable)
    command = [ROOT / "tests/petastorm/setup-oracle.sh"]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def here() -> dict[str, str]:
    """The environment of what runs on this Python."""
    return environment(sys.executable, f"{ROOT / 'lib'}:{ROOT}")


def environment(python: str, path: str = str(ROOT)) -> dict[str, str]:
    """The environment of what runs on another Python, with `path` to import from."""
    dropped = ("PYTHON", "PYSPARK", "SPARK", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "PYTHONPATH": path,
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_CONF_DIR": str(ROOT / "conf/spark"),  # log4j2.properties alone: nothing that changes what Spark does
    }


def _module(python: str, name: str, source: Path, output: Path, memory: str) -> list[str]:
    return [python, "-m", f"tests.benchmarks.{name}", str(source), str(output), "--memory", memory]
