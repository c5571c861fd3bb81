"""Must show: under Lightning each rank has its own samples, and a checkpoint of mid-epoch goes on with the next one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.examples.conftest import accuracies, example

EXAMPLE = "train_lightning.py"
STEP = 40
"""Of 57 that an epoch has for two ranks."""


@pytest.fixture(scope="module")
def run(digits: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an epoch by two ranks left what it had seen, and its checkpoint."""
    folder = tmp_path_factory.mktemp("lightning")
    options = ("--epochs", "1", "--devices", "2", "--checkpoints", folder, "--every", str(STEP), "--seen", folder / "seen")
    example(EXAMPLE, digits, *options)
    return folder


def seen(folder: Path) -> list[tuple[int, int, int, str]]:
    """Rank, epoch, step and key of every sample trained on."""
    out = []
    for file in folder.glob("seen.*"):
        for line in file.read_text().splitlines():
            epoch, step, key = line.split()
            out.append((int(file.suffix[1:]), int(epoch), int(step), key))
    return out


def test_two_ranks_have_all_samples_once(run: Path) -> None:
    assert Counter(rank for rank, *_ in seen(run)) == {0: 902, 1: 902}
    assert len({key for *_, key in seen(run)}) == 1804


def test_a_checkpoint_of_mid_epoch_is_resumed_by_one_rank(digits: str, run: Path, tmp_path: Path) -> None:
    options = ("--resume", run / f"step={STEP}.ckpt", "--checkpoints", tmp_path, "--seen", tmp_path / "seen")
    told = example(EXAMPLE, digits, "--epochs", "2", *options)
    before = [key for _, _, step, key in seen(run) if step < STEP]
    assert len(before) == STEP * 2 * 16
    first, second = ([key for _, epoch, _, key in seen(tmp_path) if epoch == number] for number in (0, 1))
    assert Counter(before + first) == Counter(second)
    assert Counter(second).total() == len(set(second)) == 1804
    assert accuracies(told)[-1] > 50, told  # of 10 classes
