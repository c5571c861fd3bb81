"""The PyTorch adapter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import shardwright as sw
from shardwright.errors import ConfigError, WorldError
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


def test_a_loader_that_was_made_before_its_world_began_is_refused(tmp_path, monkeypatch):
    """As in a script that a framework starts processes from later: each would take the samples of another rank, or all."""
    import shardwright.torch as swt

    publish(tmp_path / "d", {"train": pictures(40)}, Schema(fields=DIGIT))
    train = sw.open_dataset(str(tmp_path / "d"))
    with monkeypatch.context() as environment:
        environment.setenv("RANK", "1")
        environment.setenv("WORLD_SIZE", "2")
        loader, data = swt.loader(train, 4), swt.batches(train, 4)
    given = swt.loader(train, 4, world=sw.World(1, 2))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        made_as = "the loader was made as rank 1 of 2, and torch.distributed says rank 0 of 1 now: make it after"
        for early in (loader, data.sampler):
            with pytest.raises(WorldError, match=made_as):
                next(iter(early))
        assert len(next(iter(given))["label"]) == 4
        assert len(list(swt.loader(train, 4))) == 10
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


def test_what_a_transform_gives_becomes_tensors(tmp_path):
    """Flipped views, read-only arrays and the other byte order are what Torch can't share."""
    import shardwright.torch as swt

    publish(tmp_path / "d", {"train": pictures(40)}, Schema(fields=DIGIT))
    train = sw.open_dataset(str(tmp_path / "d"))

    def transform(batch):
        n = len(batch["label"])
        return {
            "flipped": batch["image"][:, :, ::-1], "same": np.broadcast_to(np.float32(3), (n, 2)), "name": np.array(["a"] * n),
            "big": batch["label"].astype(">i4"), "day": np.full(n, "1970-01-02", "datetime64[D]"),
        }  # fmt: skip

    plain = next(iter(train.loader(batch_size=8, world=sw.World())))
    batch = next(iter(swt.loader(train, 8, world=sw.World(), transform=transform)))
    assert np.array_equal(batch["flipped"].numpy()[:, :, ::-1], plain["image"])
    assert batch["same"].tolist() == [[3, 3]] * 8
    assert batch["name"] == ["a"] * 8
    assert batch["big"].tolist() == plain["label"].tolist()
    assert batch["day"].tolist() == [86_400_000_000] * 8
    wrong = swt.loader(train, 8, world=sw.World(), transform=lambda batch: {"x": batch["label"].astype(np.longdouble)})
    with pytest.raises(ConfigError, match=r"column 'x': PyTorch has no dtype for .*; let the transform give another"):
        next(iter(wrong))
    nothing = swt.loader(train, 8, world=sw.World(), transform=lambda batch: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="expected the batch, found None"):
        next(iter(nothing))
