"""Must show: under Lightning each rank has its own samples, and a checkpoint of mid-epoch goes on with the next one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.examples.conftest import accuracies, example

EXAMPLE = "train_lightning.py"
STEP = 40
"""Of 57 that an epoch has for two ranks."""


def seen(log: Path) -> list[tuple[int, int, int, str]]:
    """Rank, epoch, step and key of every sample trained on."""
    out = []
    for file in log.parent.glob(f"{log.name}.*"):
        for line in file.read_text().splitlines():
            epoch, step, key = line.split()
            out.append((int(file.suffix[1:]), int(epoch), int(step), key))
    return out


def test_two_ranks_and_a_checkpoint_of_mid_epoch_resumed_by_one(digits: str, tmp_path: Path) -> None:
    first, second, runs = tmp_path / "first", tmp_path / "second", tmp_path / "runs"
    example(EXAMPLE, digits, "--epochs", "1", "--devices", "2", "--checkpoints", runs, "--every", str(STEP), "--seen", first)
    whole = seen(first)
    assert Counter(rank for rank, *_ in whole) == {0: 902, 1: 902}
    assert len({key for *_, key in whole}) == 1804
    resume = ("--resume", runs / f"step={STEP}.ckpt")
    told = example(EXAMPLE, digits, "--epochs", "4", *resume, "--checkpoints", tmp_path / "more", "--seen", second)
    before = [key for _, _, step, key in whole if step < STEP]
    rest = seen(second)
    epochs = {epoch: Counter(key for _, e, _, key in rest if e == epoch) for epoch in range(4)}
    assert len(before) == STEP * 2 * 16
    assert Counter(before) + epochs[0] == Counter(dict.fromkeys((key for *_, key in whole), 1))
    assert [(keys.total(), len(keys)) for keys in epochs.values()] == [(1804 - len(before),) * 2, *[(1804, 1804)] * 3]
    assert accuracies(told)[-1] > 85, told
