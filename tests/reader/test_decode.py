"""`decode=`: parts of pictures in the batch; random ones are a function of seed, epoch and sample, and of nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import ConfigError, SchemaError
from shardwright.schema import Field, Schema
from tests.datasets import publish

SAMPLES = 60
FIELDS = (
    Field(name="photo", dtype="uint8", shape=(None, None, 3), codec="image"),
    Field(name="grey", dtype="uint8", shape=(40, 48, 1), codec="image"),
    Field(name="maybe", dtype="uint8", shape=(8, 8, 3), codec="image", nullable=True),
    Field(name="array", dtype="uint8", shape=(4,)),
    Field(name="label", dtype="int64"),
)
RANDOM = sw.RandomResizedCrop(16, scale=(0.2, 0.9), flip=0.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    photos = [
        bytes(imagecodecs.jpeg8_encode(rng.integers(0, 256, (30 + row, 90 - row, 3), np.uint8))) for row in range(SAMPLES)
    ]
    small = bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint8)))
    values = {
        "photo": photos,
        "grey": [bytes(imagecodecs.png_encode(rng.integers(0, 256, (40, 48), np.uint8))) for _ in range(SAMPLES)],
        "maybe": [None if row % 3 else small for row in range(SAMPLES)],
        "array": np.zeros((SAMPLES, 4), np.uint8),
        "label": np.arange(SAMPLES),
    }
    folder = tmp_path_factory.mktemp("decode") / "dataset"
    publish(folder, {"train": values}, Schema(fields=FIELDS), shards=3, standardise=("grey",))
    return folder


def by_label(dataset: sw.Dataset, *, epochs: int = 1, world: int = 1, **options: Any) -> list[dict[int, Any]]:
    """Of each epoch, the picture of every sample, over all ranks."""
    out: list[dict[int, Any]] = [{} for _ in range(epochs)]
    for rank in range(world):
        loader = dataset.loader(**{"batch_size": 7, "world": sw.World(rank=rank, size=world), "seed": 3, **options})
        for epoch in range(epochs):
            for batch in loader:
                out[epoch] |= dict(zip(batch["label"].tolist(), batch["photo"], strict=True))
    return out


def equal(one: dict[int, Any], other: dict[int, Any]) -> list[bool]:
    assert sorted(one) == sorted(other)
    return [np.array_equal(one[label], other[label]) for label in one]


def test_pictures_of_all_sizes_become_one_array(root: Path) -> None:
    dataset = sw.open_dataset(root, split="train", columns=["photo", "grey", "label"])
    decode = {"photo": sw.CenterCrop(24), "grey": sw.Resize((20, 24))}
    loader = dataset.loader(batch_size=8, world=sw.World(), decode=decode, shuffle="none")
    batch = next(iter(loader))
    assert batch["photo"].shape == (8, 24, 24, 3)
    assert batch["grey"].shape == (8, 20, 24, 1)
    assert (loader.schema["photo"].shape, loader.schema["label"].shape) == ((24, 24, 3), ())
    for label, found in zip(batch["label"].tolist(), batch["photo"], strict=True):
        whole = next(sample["photo"] for sample in dataset if sample["label"] == label)
        top, left = (whole.shape[0] - 24) // 2, (whole.shape[1] - 24) // 2
        np.testing.assert_array_equal(found, whole[top : top + 24, left : left + 24])
    table = next(loader.as_arrow())
    assert table.schema.field("photo").type.shape == [24, 24, 3]


def test_random_parts_depend_on_seed_epoch_and_sample_alone(root: Path) -> None:
    dataset = sw.open_dataset(root, split="train", columns=["photo", "label"])
    first, second = by_label(dataset, epochs=2, decode={"photo": RANDOM})
    assert len(first) == SAMPLES
    assert sum(equal(first, second)) == 0  # another epoch
    others: list[dict[str, Any]] = [
        {"world": 3}, {"world": 2, "batch_size": 5}, {"threads": 0}, {"threads": 3}, {"shuffle": "global"}, {"shuffle": "none"},
    ]  # fmt: skip
    for other in others:
        assert all(equal(first, *by_label(dataset, decode={"photo": RANDOM}, **other))), other
    assert sum(equal(first, *by_label(dataset, decode={"photo": RANDOM}, seed=4))) == 0


def test_a_shard_alone_and_a_selection_have_the_same_parts(root: Path) -> None:
    dataset = sw.open_dataset(root, split="train", columns=["photo", "label"])
    (whole,) = by_label(dataset, decode={"photo": RANDOM})
    for some in (sw.open_dataset(root, split="train", columns=["photo", "label"], shards=[2]), dataset.where("label < 30")):
        (found,) = by_label(some, decode={"photo": RANDOM}, shuffle="none")
        assert 15 < len(found) < 40
        assert all(equal(found, {label: whole[label] for label in found}))


def test_a_sample_that_comes_again_in_an_epoch_comes_in_another_part(root: Path) -> None:
    dataset = sw.open_dataset(root, split="train", columns=["photo", "label"])
    weights = np.zeros(SAMPLES)
    weights[5] = 1
    loader = dataset.loader(
        batch_size=8, world=sw.World(), sampling=sw.Weighted(weights), samples_per_epoch=8, decode={"photo": RANDOM}
    )
    batch = next(iter(loader))
    assert len(np.unique(batch["label"])) == 1
    assert len({photo.tobytes() for photo in batch["photo"]}) == 8


def test_resumed_in_mid_epoch_the_parts_are_those_of_an_uninterrupted_run(root: Path) -> None:
    dataset = sw.open_dataset(root, split="train", columns=["photo", "label"])
    options: Any = {"batch_size": 7, "world": sw.World(), "seed": 3, "decode": {"photo": RANDOM}}
    whole = [batch["photo"] for batch in dataset.loader(**options)]
    loader = dataset.loader(**options)
    for _ in zip(range(4), loader, strict=False):
        pass
    resumed = dataset.loader(**options)
    resumed.load_state_dict(loader.state_dict())
    for found, expected in zip(resumed, whole[4:], strict=True):
        np.testing.assert_array_equal(found["photo"], expected)


@pytest.mark.parametrize("decode", [None, {"photo": sw.CenterCrop(24)}, {"photo": RANDOM}])
def test_normalised_on_the_way_with_the_mean_and_std_of_ones_own(root: Path, decode: Any) -> None:
    dataset = sw.open_dataset(root, split="train", columns=["photo", "label"])
    mean, std = np.array([120.0, 110.0, 100.0]), np.array([60.0, 50.0, 40.0])
    (plain,) = by_label(dataset, decode=decode)
    (found,) = by_label(dataset, decode=decode, normalise={"photo": (mean, std)})
    for label, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, (plain[label] - mean) / std, rtol=0, atol=1e-5)
    loader = dataset.loader(batch_size=7, world=sw.World(), decode={"photo": RANDOM}, normalise={"photo": (120, 60)})
    assert loader.inverse(next(iter(loader)))["photo"].dtype == np.uint8


def test_torch_knows_the_shape(root: Path) -> None:
    import shardwright.torch as swt

    dataset = sw.open_dataset(root, split="train", columns=["photo", "label"])
    options: Any = {"batch_size": 6, "world": sw.World(), "decode": {"photo": RANDOM}, "last": "drop", "epochs": 1}
    tensors = next(iter(swt.loader(dataset, **options)))
    assert tuple(tensors["photo"].shape) == (6, 16, 16, 3)
    np.testing.assert_array_equal(tensors["photo"].numpy(), next(iter(dataset.loader(**options)))["photo"])


@pytest.mark.parametrize(
    "decode, error, message",
    [
        ({"photos": RANDOM}, SchemaError, "no field 'photos'; did you mean 'photo'?"),
        ({"label": RANDOM}, SchemaError, "decode: field 'label': expected encoded pictures, but it holds int64 values"),
        ({"array": RANDOM}, SchemaError, "decode: field 'array': expected encoded pictures, but it holds uint8 values"),
        ({"maybe": RANDOM}, SchemaError, "decode: field 'maybe': its pictures may be missing, so they fit no array"),
        (RANDOM, ConfigError, "decode: expected fields and what is wanted of each, such as decode={"),
        ({"photo": 224}, ConfigError, "decode: field 'photo': expected a geometry, such as decode={"),
        ({"photo": sw.CenterCrop}, ConfigError, "decode: field 'photo': expected a geometry"),
    ],
)
def test_what_can_not_be_cut_is_refused(root: Path, decode: Any, error: type[Exception], message: str) -> None:
    dataset = sw.open_dataset(root, split="train")
    with pytest.raises(error) as raised:
        dataset.loader(batch_size=2, world=sw.World(), decode=decode)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "normalise, message",
    [
        ({"photo": 3}, "normalise: field 'photo': expected (mean, std), each one number or one for each channel"),
        ({"photo": (1, -1)}, "normalise: field 'photo': expected (mean, std)"),
        ({"photo": ([1, 2], [1, 2])}, "normalise: field 'photo' has 3 channels, found 2 means"),
        ({"photos": (0, 1)}, "no field 'photos'; did you mean 'photo'?"),
    ],
)
def test_means_that_can_not_be_are_refused(root: Path, normalise: Any, message: str) -> None:
    dataset = sw.open_dataset(root, split="train")
    with pytest.raises(SchemaError) as raised:
        dataset.loader(batch_size=2, world=sw.World(), normalise=normalise)
    assert message in str(raised.value)
