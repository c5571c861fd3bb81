"""Must show: the example reaches 95 % on held-out digits; stopped in mid-epoch, it sees every sample of the epoch once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.examples.conftest import accuracies

EXAMPLE = ROOT / "docs/examples/train_torch.py"


def train(ranks: int, *arguments: str) -> str:
    """What rank 0 printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(EXAMPLE)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def seen(log: Path) -> dict[str, Counter[str]]:
    """How often each sample was trained on, by epoch, on all ranks."""
    epochs: dict[str, Counter[str]] = {}
    for file in log.parent.glob(f"{log.name}.*"):
        for line in file.read_text().splitlines():
            epoch, key = line.split()
            epochs.setdefault(epoch, Counter())[key] += 1
    return epochs


def test_two_ranks_reach_95_percent(digits: str) -> None:
    told = train(2, digits, "--epochs", "10")
    found = accuracies(told)
    assert len(found) == 10
    assert max(found) >= 95, told  # of 196 digits; the nearest neighbour among those trained on is right for 92 %


@pytest.mark.parametrize("ranks", [1, 4])
def test_stopped_in_mid_epoch_and_resumed_with_other_ranks(digits: str, tmp_path: Path, ranks: int) -> None:
    log, checkpoint = tmp_path / "seen", tmp_path / "run.pt"
    train(2, digits, "--stop-after", "68", "--checkpoint", str(checkpoint), "--seen", str(log))
    before = seen(log)
    assert {epoch: keys.total() for epoch, keys in before.items()} == {"0": 1804, "1": 11 * 2 * 16}  # 57 steps an epoch
    train(ranks, digits, "--epochs", "3", "--checkpoint", str(checkpoint), "--seen", str(log))
    after = seen(log)
    assert sorted(after) == ["0", "1", "2"]
    for keys in after.values():
        assert set(keys.values()) == {1}  # none twice
        assert 1804 - (ranks - 1) <= len(keys) <= 1804
    assert len(set().union(*after.values())) == 1804


def test_the_readme_code_runs(digits: str, tmp_path: Path) -> None:
    code = re.search(r"## A trainer.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert code is not None
    shutil.copytree(digits, tmp_path / "build/datasets/mnist")
    before = "import torch\nmodel = torch.nn.Linear(1, 1)\nsteps = []\ndef step(image, label): steps.append(len(label))\n"
    after = "\nassert sum(steps) == 3 * 1804, sum(steps)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", before + code[1] + after], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
