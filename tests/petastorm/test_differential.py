"""The drop-in beside stock Petastorm: the same readings of the same datasets, row by row, in order, dtypes included."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.petastorm.conftest import oracle_environment, oracle_python
from tests.petastorm.differential.package import Package
from tests.petastorm.differential.readings import ALL, Reading

DATA = Path(__file__).with_name("data")
ROOT = DATA.parents[2]
OURS = Package("shardwright.petastorm")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("stock") / "readings.json"
    command = [oracle_python(), "-m", "tests.petastorm.differential.stock", str(DATA), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, env=oracle_environment())
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def cases() -> list[Any]:
    return [
        pytest.param(dataset, reading, id=f"{dataset}-{reading.__name__}") for dataset, all_ in ALL.items() for reading in all_
    ]


@pytest.mark.parametrize("dataset, reading", cases())
def test_the_same(stock: dict[str, Any], dataset: str, reading: Reading) -> None:
    ours = json.loads(json.dumps(reading(OURS, f"file://{DATA / dataset / 'data'}")))
    theirs = stock[f"{dataset}/{reading.__name__}"]
    assert "failed" not in theirs, theirs["failed"]
    assert len(ours) == len(theirs)
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one == other, place
