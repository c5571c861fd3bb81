"""torchrun with gloo: epochs end together on an odd number of samples, and a rank's death loses nothing that is not said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

import shardwright as sw
from tests.conftest import ROOT

SCRIPT = """
import json, os, signal, sys
import torch, torch.distributed as dist
import shardwright as sw, shardwright.torch as swt

url, folder, run, epochs, dies = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
dist.init_process_group("gloo")
rank, state = dist.get_rank(), os.path.join(folder, "state")
loader = swt.loader(sw.open_dataset(url, split="train")[:195], 8, seed=2)
if os.path.exists(state):
    loader.load_state_dict(json.load(open(state))["loader"])
step = 0
with open(os.path.join(folder, f"seen.{run}.{rank}"), "w", buffering=1) as seen:
    while loader.epoch < epochs:
        epoch = loader.epoch
        for batch in loader:
            step += 1
            if dies == step and rank == dist.get_world_size() - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.write(json.dumps([step, epoch, batch["label"].tolist()]) + "\\n")
            dist.all_reduce(torch.ones(1))  # hangs where ranks have unequally many batches
            if rank == 0:
                with open(state + ".partial", "w") as file:
                    json.dump({"loader": loader.state_dict(), "step": step}, file)
                os.replace(state + ".partial", state)
dist.destroy_process_group()
"""


def torchrun(folder, ranks, url, run, epochs, dies):
    script = folder / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, url, str(folder), str(run), str(epochs), str(dies)], env=environment, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


def seen(folder, run, steps):
    """How often each sample was trained on in each epoch, in the steps that the saved state knows of."""
    epochs: dict[int, Counter[int]] = {}
    for file in folder.glob(f"seen.{run}.*"):
        for step, epoch, labels in map(json.loads, file.read_text().splitlines()):
            if step <= steps:
                epochs.setdefault(epoch, Counter()).update(labels)
    return epochs


@pytest.mark.parametrize("ranks, fewer", [(2, 1), (4, 3)])
def test_a_rank_is_killed_and_fewer_go_on_from_the_last_state(small, tmp_path, ranks, fewer):
    each = len(sw.open_dataset(str(small), split="train")[:195].loader(batch_size=8, world=sw.World(0, ranks)))
    done = torchrun(tmp_path, ranks, str(small), 1, 2, each + 3)
    assert done.returncode != 0
    saved = json.loads((tmp_path / "state").read_text())
    assert each + 1 <= saved["step"] <= each + 2  # rank 0 may be ended before it saves once more
    done = torchrun(tmp_path, fewer, str(small), 2, 2, 0)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = seen(tmp_path, 1, saved["step"]), seen(tmp_path, 2, 10**9)
    assert (sorted(first), sorted(second)) == ([0, 1], [1])
    for counts, most_left in ((first[0], ranks - 1), (first[1] + second[1], fewer - 1)):
        assert set(counts.values()) == {1}
        assert 195 - most_left <= len(counts) <= 195
