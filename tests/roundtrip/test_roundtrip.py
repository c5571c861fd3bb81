"""Must show: every kind of field through prepare and back in each system: equal, or within the stated bound."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from shardwright.schema import INTEGERS
from tests.conftest import ROOT
from tests.petastorm.conftest import Oracle
from tests.roundtrip import systems
from tests.roundtrip.kinds import KINDS, ROWS, Kind
from tests.roundtrip.systems import Read

NAMES = ("numpy", "torch", "tensorflow", "jax", "arrow", "petastorm_reader", "petastorm_batch", "spark", "duckdb", "pyarrow")


@pytest.fixture(scope="session")
def reads(root: Path, spark: SparkSession, petastorm_oracle: Oracle) -> dict[str, Read]:
    """What each system read, when first asked for."""
    ways: dict[str, Callable[[], Read]] = {
        "petastorm_reader": lambda: systems.petastorm(root, petastorm_oracle, "reader"),
        "petastorm_batch": lambda: systems.petastorm(root, petastorm_oracle, "batch"),
        "spark": lambda: systems.spark(root, spark),
    }
    return _Lazy({name: ways.get(name) or functools.partial(getattr(systems, name), root) for name in NAMES})


class _Lazy(dict[str, Read]):
    def __init__(self, ways: dict[str, Callable[[], Read]]) -> None:
        super().__init__()
        self._ways = ways

    def __missing__(self, name: str) -> Read:
        self[name] = self._ways[name]()
        return self[name]


@pytest.mark.parametrize("system", NAMES)
def test_every_kind_of_field(reads: dict[str, Read], system: str) -> None:
    values = reads[system].values
    wrong = [
        f"{kind.name} of {i}: {values[kind.name][i]!r}, wrote {kind.value(i)!r}"
        for kind in KINDS
        for i in range(ROWS)
        if not same(kind, values[kind.name][i], kind.value(i), system)
    ]
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:20])


IN_BATCHES = {"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "arrow": "Arrow"}
IN_FILES = {
    "petastorm_reader": "Petastorm `make_reader`", "petastorm_batch": "`make_batch_reader`", "spark": "Spark",
    "duckdb": "DuckDB",
}  # fmt: skip


@pytest.mark.parametrize("columns", [IN_BATCHES, IN_FILES], ids=["batches", "files"])
def test_the_documentation_says_what_each_system_makes_of_a_field(reads: dict[str, Read], columns: dict[str, str]) -> None:
    lines = [f"| field | {' | '.join(columns.values())} |", f"|{' --- |' * (len(columns) + 1)}"]
    for kind in KINDS:
        if kind.shown:
            lines.append(f"| {kind.shown} | {' | '.join(reads[system].forms[kind.name] for system in columns)} |")
    table = "\n".join(lines)
    assert table in (ROOT / "docs/batches.md").read_text(encoding="utf-8"), f"docs/batches.md should have\n{table}"


def same(kind: Kind, got: Any, wrote: Any, system: str) -> bool:
    """Equal, or within the bound of the field's codec, but for what stock Petastorm does: docs/batches.md says so."""
    petastorm, dtype = system.startswith("petastorm"), kind.field.dtype
    if wrote is None:
        return absent(got, kind, system)
    if dtype == "timestamp":
        return bool(np.datetime64(got) == wrote)
    if dtype in ("string", "bytes"):
        text = got.decode() if dtype == "string" and isinstance(got, bytes) else got
        return bool(text == (wrote.rstrip("\0") if petastorm and dtype == "string" else wrote))
    if system == "petastorm_batch" and kind.field.nullable and not kind.field.shape and dtype in INTEGERS:
        return bool(got == np.float64(wrote))
    if dtype in INTEGERS and not kind.field.shape:
        return int(got) == int(wrote)  # Spark gives decimals for unsigned 64-bit numbers
    if not isinstance(wrote, np.ndarray):
        return bool(got == wrote)
    if wrote.size == 0:
        return np.size(got) == 0
    bound = kind.bound + (petastorm and kind.field.dtype == "uint8" and kind.compress is not None)  # another JPEG decoder
    return np.shape(got) == wrote.shape and bool((np.abs(np.asarray(got, "f8") - wrote.astype("f8")) <= bound).all())


def absent(got: Any, kind: Kind, system: str) -> bool:
    """None; in stock Petastorm also NaN and NaT, and of its batch reader the text "None"."""
    if got is None:
        return True
    if system == "petastorm_batch" and kind.field.dtype == "string":
        return bool(got == "None")
    return system.startswith("petastorm") and bool(got != got)
