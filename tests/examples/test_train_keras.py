"""Must show: Keras reaches 95 % on held-out digits, also when it was killed in mid-epoch and started again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.examples.conftest import ENVIRONMENT, EXAMPLES, accuracies, example


def test_killed_in_mid_epoch_and_started_again_it_reaches_95_percent(digits: str, tmp_path: Path) -> None:
    backup = tmp_path / "run" / "backup.json"
    command = [sys.executable, str(EXAMPLES / "train_keras.py"), digits, "--backup", str(backup.parent), "--every", "30"]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, text=True)
        try:
            deadline = time.monotonic() + 200
            while not (state := _state(backup)) or state["epoch"] < 1 or not state["samples_consumed"]:
                assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
                assert time.monotonic() < deadline, "no backup in mid-epoch"
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
    state = _state(backup)
    assert state is not None
    assert 1 <= state["epoch"] < 9, "it was stopped somewhere on the way"
    told = example("train_keras.py", digits, "--backup", backup.parent, "--every", "30")
    lines = re.findall(r"^(\d+)/(\d+) - .*val_accuracy: ([\d.]+)", told, re.M)
    left = 113 - state["samples_consumed"] // 16
    assert [int(steps) for steps, _, _ in lines] == [left, *[113] * (9 - state["epoch"])]
    assert max(float(found) for *_, found in lines) >= 0.95, told
    assert _state(backup) == {**state, "epoch": 10, "samples_consumed": 0}


def test_a_loop_of_ones_own_stops_and_resumes(digits: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert accuracies(example("train_tensorflow.py", digits, "--checkpoint", folder, "--stop-after", "150", "--epochs", "2"))
    state = json.loads((folder / "loader.json").read_text())
    assert (state["epoch"], state["samples_consumed"]) == (1, 37 * 16)
    (found,) = accuracies(example("train_tensorflow.py", digits, "--checkpoint", folder, "--epochs", "2"))
    assert found >= 70
    state = json.loads((folder / "loader.json").read_text())
    assert (state["epoch"], state["samples_consumed"]) == (2, 0)


def _state(backup: Path) -> dict | None:
    """The loader's state in the backup; it is replaced as a whole, so it is there or not."""
    return json.loads(backup.read_text())["loader"] if backup.exists() else None
