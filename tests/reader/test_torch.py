"""The PyTorch adapter, and the example that trains, stops in mid-epoch and resumes with another number of ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import shardwright as sw
from shardwright.schema import Field, Schema
from tests.datasets import keys_of, publish

torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/train_torch.py"
DIGIT = (
    Field(name="image", dtype="uint8", shape=(28, 28)),
    Field(name="label", dtype="uint8"),
)


def pictures(samples):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, samples)
    return {"image": generator.integers(0, 256, (samples, 28, 28), np.uint8), "label": labels}


def test_batches_are_tensors_with_the_same_values_and_state(tmp_path):
    import shardwright.torch as swt

    schema = Schema(
        fields=(
            *DIGIT,
            Field(name="text", dtype="string"),
            Field(name="when", dtype="timestamp"),
            Field(name="wide", dtype="uint16"),
        )
    )
    data = pictures(40) | {"text": [str(row) for row in range(40)], "wide": range(40)}
    data["when"] = np.arange(40).astype("M8[us]")
    publish(tmp_path / "d", {"train": data}, schema, standardise=["image"])
    train = sw.open_dataset(str(tmp_path / "d"))
    ours = train.loader(batch_size=16, world=sw.World(), normalise=True)
    theirs = swt.loader(train, 16, world=sw.World(), normalise=True)
    assert (len(theirs), theirs.remaining, theirs.epoch) == (3, 3, 0)
    for plain, batch in zip(ours, theirs, strict=True):
        assert batch["image"].dtype == torch.float32
        assert batch["when"].dtype == torch.int64
        assert batch["text"] == plain["text"].tolist()
        for name in ("image", "label", "wide"):
            assert np.array_equal(batch[name].numpy(), plain[name])
        assert theirs.state_dict() == ours.state_dict()
    theirs.load_state_dict(theirs.state_at(16, epoch=3))
    assert (theirs.epoch, theirs.remaining, theirs.metrics().samples) == (3, 2, 40)


def test_world_comes_from_torch_distributed(tmp_path):
    import shardwright.torch as swt

    publish(tmp_path / "d", {"train": pictures(40)}, Schema(fields=DIGIT))
    train = sw.open_dataset(str(tmp_path / "d"))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        assert len(swt.loader(train, 4)) == 10
    finally:
        torch.distributed.destroy_process_group()


def train(ranks: int, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(EXAMPLE)]
    path = os.pathsep.join(["lib", *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, *arguments], env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_example_resumes_with_another_number_of_ranks(tmp_path):
    data = {"train": pictures(300), "validation": pictures(80)}
    publish(tmp_path / "d", data, Schema(fields=DIGIT), part_samples=100, standardise=["image"])
    common = (str(tmp_path / "d"), "--checkpoint", str(tmp_path / "run.pt"), "--seen", str(tmp_path / "seen"))
    train(2, *common, "--stop-after", "3")
    train(1, *common, "--epochs", "1")
    seen = Counter(line for file in tmp_path.glob("seen.*") for line in file.read_text().splitlines())
    assert seen == {f"0 {key.tobytes().hex()}": 1 for key in keys_of("train", range(300))}
