"""torchrun with gloo: epochs end together on an odd number of samples, and a rank's death loses nothing that is not said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

import shardwright as sw
from tests.conftest import ROOT

SECONDS = 200
SCRIPT = """
import json, os, signal, sys
import torch, torch.distributed as dist
import shardwright as sw, shardwright.torch as swt

url, folder, run, epochs, batch_size, victim, dies = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
dist.init_process_group("gloo")
rank, state = dist.get_rank(), os.path.join(folder, "state")
loader = swt.loader(sw.open_dataset(url, split="train")[:195], batch_size, seed=2)
if os.path.exists(state):
    loader.load_state_dict(json.load(open(state))["loader"])
step = 0
with open(os.path.join(folder, f"seen.{run}.{rank}"), "w", buffering=1) as seen:
    while loader.epoch < epochs:
        epoch = loader.epoch
        for batch in loader:
            step += 1
            if dies == step and rank == victim:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.write(json.dumps([step, epoch, batch["label"].tolist(), loader.state_dict()]) + "\\n")
            dist.all_reduce(torch.ones(1))  # hangs where ranks have unequally many batches
            if rank == 0:
                with open(state + ".partial", "w") as file:
                    json.dump({"loader": loader.state_dict(), "step": step}, file)
                os.replace(state + ".partial", state)
        assert len(loader) == loader.remaining
dist.destroy_process_group()
"""


def torchrun(folder, ranks, url, run, *, batch_size, victim=-1, dies=0):
    """Two epochs, or until rank `victim` is killed in step `dies`. A job that hangs is killed, and fails the test."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [url, folder, run, 2, batch_size, victim, dies]
    with subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as job:  # fmt: skip
        try:
            told, _ = job.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            told, _ = job.communicate()
            pytest.fail(f"{ranks} ranks hang: not done after {SECONDS} s\n{told[-4000:]}")
    return job.returncode, told


def seen(folder, run, steps):
    """How often each sample was trained on in each epoch, in the steps that the saved state knows of."""
    epochs: dict[int, Counter[int]] = {}
    states: dict[int, set[str]] = {}
    for file in folder.glob(f"seen.{run}.*"):
        for step, epoch, labels, state in map(json.loads, file.read_text().splitlines()):
            states.setdefault(step, set()).add(json.dumps(state))
            if step <= steps:
                epochs.setdefault(epoch, Counter()).update(labels)
    assert all(len(of_ranks) == 1 for of_ranks in states.values()), "states are the same on all ranks"
    return epochs


@pytest.mark.parametrize("ranks, fewer, victim", [(2, 1, 1), (4, 3, 0)])
def test_a_rank_is_killed_and_fewer_go_on_from_the_last_state(small, tmp_path, ranks, fewer, victim):
    """195 samples divide by neither 2 nor 4: epochs end together all the same, and nothing that was saved is lost."""
    each = len(sw.open_dataset(str(small), split="train")[:195].loader(batch_size=8, world=sw.World(0, ranks)))
    code, told = torchrun(tmp_path, ranks, str(small), 1, batch_size=8, victim=victim, dies=each + 3)
    assert code != 0
    assert "Signal 9 (SIGKILL)" in told
    saved = json.loads((tmp_path / "state").read_text())
    assert each + 1 <= saved["step"] <= each + 2  # rank 0 may be ended before it saves once more
    code, told = torchrun(tmp_path, fewer, str(small), 2, batch_size=5)
    assert code == 0, told[-4000:]
    first, second = seen(tmp_path, 1, saved["step"]), seen(tmp_path, 2, 10**9)
    assert (sorted(first), sorted(second)) == ([0, 1], [1])
    for counts, most_left in ((first[0], ranks - 1), (first[1] + second[1], fewer - 1)):
        assert set(counts.values()) == {1}
        assert 195 - most_left <= len(counts) <= 195
