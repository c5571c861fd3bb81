"""The PyTorch adapter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import shardwright as sw
from shardwright.schema import Field, Schema
from tests.datasets import publish

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


def test_sampling_and_on_error_are_those_of_the_dataset(tmp_path):
    import shardwright.torch as swt

    publish(tmp_path / "d", {"train": pictures(40)}, Schema(fields=DIGIT))
    train = sw.open_dataset(str(tmp_path / "d"))
    options: dict[str, Any] = {
        "world": sw.World(),
        "sampling": sw.Balanced("label"),
        "samples_per_epoch": 30,
        "on_error": "replace",
    }
    ours, theirs = train.loader(batch_size=10, **options), swt.loader(train, 10, **options)
    assert [batch["label"].tolist() for batch in theirs] == [batch["label"].tolist() for batch in ours]
    assert theirs.state_dict() == ours.state_dict()
