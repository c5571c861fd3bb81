"""The batches of a loader as a tf.data.Dataset."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorflow as tf

import shardwright as sw
import shardwright.tensorflow as swf
from shardwright.errors import ConfigError
from shardwright.schema import Field, Schema
from tests.datasets import digits, publish

SAMPLES = 40
FIELDS: list[dict[str, Any]] = [
    {"name": "picture", "dtype": "uint8", "shape": [4, 5]}, {"name": "id", "dtype": "int64"},
    {"name": "half", "dtype": "float16"}, {"name": "huge", "dtype": "uint64"}, {"name": "flag", "dtype": "bool"},
    {"name": "when", "dtype": "timestamp"}, {"name": "text", "dtype": "string"}, {"name": "blob", "dtype": "bytes"},
    {"name": "path", "dtype": "float32", "shape": [None, 2]}, {"name": "grid", "dtype": "int16", "shape": [None, 2, None]},
    {"name": "maybe", "dtype": "float32", "nullable": True}, {"name": "maybe_text", "dtype": "string", "nullable": True},
    {"name": "maybe_path", "dtype": "int32", "shape": [None], "nullable": True},
]  # fmt: skip


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> sw.Dataset:
    root = tmp_path_factory.mktemp("tensorflow") / "d"
    rows = range(SAMPLES)
    data: dict[str, Any] = {
        "picture": np.random.default_rng(0).integers(0, 256, (SAMPLES, 4, 5), np.uint8), "id": rows,
        "half": np.arange(SAMPLES) / np.float16(3), "huge": [2**63 - 1 - i for i in rows], "flag": [i % 2 == 0 for i in rows],
        "when": np.arange(SAMPLES).astype("M8[us]"), "text": [f"é中{i}" for i in rows],
        "blob": [b"\0a\0" * (i % 3) for i in rows],  # zeros at both ends
        "path": [np.full((i % 3, 2), i, "f4") for i in rows], "grid": [np.full((i % 3, 2, i % 4), i, "i2") for i in rows],
        "maybe": [None if i % 3 == 1 else i / 2 for i in rows], "maybe_text": [None if i % 3 == 1 else str(i) for i in rows],
        "maybe_path": [None if i % 3 == 1 else np.arange(i % 4, dtype="i4") for i in rows],
    }  # fmt: skip
    publish(root, {"train": data}, Schema.model_validate({"fields": FIELDS}), standardise=["picture"])
    return sw.open_dataset(str(root), columns=[*(field["name"] for field in FIELDS), "_key"])


def ids(dataset: Any) -> list[list[int]]:
    return [batch["id"].numpy().tolist() for batch in dataset]


def every_id(loader: sw.Loader) -> list[list[int]]:
    """What iterating the loader gives, over all its epochs."""
    out = []
    while loader.options.epochs is not None and loader.epoch < loader.options.epochs:
        out += [batch["id"].tolist() for batch in loader]
    return out


def test_every_kind_of_field(train: sw.Dataset) -> None:
    def loader() -> sw.Loader:
        return train.loader(batch_size=16, world=sw.World(), normalise=("picture",), epochs=1)

    dataset = swf.dataset(loader())
    for plain, batch in zip(loader(), dataset, strict=True):
        assert set(batch) == {*plain, "maybe_text_mask", "maybe_path_mask"}
        for name in ("picture", "id", "half", "huge", "flag", "maybe_mask", "_key"):
            assert batch[name].numpy().dtype == plain[name].dtype
            assert np.array_equal(batch[name].numpy(), plain[name])
        assert np.array_equal(batch["maybe"].numpy(), plain["maybe"], equal_nan=True)
        assert np.array_equal(batch["when"].numpy(), plain["when"].view(np.int64))
        assert batch["text"].numpy().tolist() == [text.encode() for text in plain["text"]]
        assert batch["blob"].numpy().tolist() == plain["blob"].tolist()
        missing = [value is None for value in plain["maybe_text"]]
        assert batch["maybe_text_mask"].numpy().tolist() == batch["maybe_path_mask"].numpy().tolist() == missing
        assert batch["maybe_text"].numpy().tolist() == [(text or "").encode() for text in plain["maybe_text"]]
        for name in ("path", "grid", "maybe_path"):
            assert batch[name].dtype == {"path": tf.float32, "grid": tf.int16, "maybe_path": tf.int32}[name]
            wanted = [[] if value is None else value.tolist() for value in plain[name]]
            assert batch[name].to_list() == wanted


def test_shapes_are_static(train: sw.Dataset) -> None:
    def spec(last: Any, replicas: int = 1) -> Any:
        return swf.dataset(train.loader(batch_size=16, world=sw.World(), last=last), replicas=replicas).element_spec

    assert spec("short")["picture"] == tf.TensorSpec((None, 4, 5), tf.uint8)
    assert spec("drop")["picture"] == tf.TensorSpec((16, 4, 5), tf.uint8)
    assert spec("pad")["_pad"] == tf.TensorSpec((16,), tf.bool)
    assert spec("pad", replicas=2)["_key"] == tf.TensorSpec((8, 16), tf.uint8)
    assert spec("drop", replicas=3)["id"] == tf.TensorSpec((None,), tf.int64)
    assert spec("drop")["path"] == tf.RaggedTensorSpec((None, None, 2), tf.float32, 1, tf.int64)
    assert spec("drop")["grid"] == tf.RaggedTensorSpec((None, None, None, None), tf.int16, 3, tf.int64)


def test_parts_of_pictures_have_a_static_shape(tmp_path: Path) -> None:
    photos = [bytes(imagecodecs.png_encode(np.full((20 + row, 30, 3), row, np.uint8))) for row in range(8)]
    publish(tmp_path / "d", {"train": {"photo": photos}}, Schema(fields=(
        Field(name="photo", dtype="uint8", shape=(None, None, 3), codec="image"),
    )))  # fmt: skip
    options: Any = {"batch_size": 4, "world": sw.World(), "decode": {"photo": sw.RandomResizedCrop(16)}, "epochs": 1}
    train = sw.open_dataset(tmp_path / "d")
    found = swf.dataset(train.loader(**options, last="drop"))
    assert found.element_spec["photo"].shape.as_list() == [4, 16, 16, 3]
    for batch, expected in zip(found, train.loader(**options, last="drop"), strict=True):
        np.testing.assert_array_equal(batch["photo"].numpy(), expected["photo"])


def test_one_epoch_follows_the_other_from_the_loaders_state(train: sw.Dataset) -> None:
    loader = train.loader(batch_size=16, world=sw.World(), seed=5, epochs=3)
    whole = every_id(train.loader(batch_size=16, world=sw.World(), seed=5, epochs=3))
    assert len(whole) == 9
    dataset = swf.dataset(loader)
    assert dataset.options().experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF
    assert (int(dataset.cardinality()), loader.epoch, loader.remaining) == (9, 0, 3)
    assert ids(dataset) == whole
    assert ids(dataset) == whole, "each iteration begins at the same batch"
    assert loader.state_dict() == loader.state_at(0, epoch=0), "the loader stays where it is"
    for done in range(9):
        resumed = train.loader(batch_size=16, world=sw.World(), seed=5, epochs=3)
        resumed.load_state_dict(loader.state_after(done))
        assert int(swf.dataset(resumed).cardinality()) == 9 - done
        if done in (0, 1, 3, 8):
            assert ids(swf.dataset(resumed)) == whole[done:]
    resumed.load_state_dict(loader.state_after(9))
    assert ids(swf.dataset(resumed)) == []


def test_iterations_do_not_disturb_each_other(train: sw.Dataset) -> None:
    dataset = swf.dataset(train.loader(batch_size=8, world=sw.World(), epochs=1))
    assert [(one["id"].numpy().tolist()) for pair in zip(dataset, dataset, strict=True) for one in pair] == [
        rows for rows in ids(dataset) for _ in range(2)
    ]
    assert ids(dataset.take(1)) == ids(dataset)[:1]


def test_without_epochs_it_never_ends(train: sw.Dataset) -> None:
    dataset = swf.dataset(train.loader(batch_size=20, world=sw.World()))
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    first = list(islice(dataset, 6))
    for epoch in range(3):
        rows = [row for batch in first[2 * epoch : 2 * epoch + 2] for row in batch["id"].numpy().tolist()]
        assert sorted(rows) == list(range(SAMPLES))


def test_batches_are_cut_for_replicas(train: sw.Dataset) -> None:
    """Always into as many, so that no step has pieces of two epochs."""
    loader = train[:33].loader(batch_size=16, world=sw.World(), epochs=2)
    dataset = swf.dataset(loader, replicas=2)
    assert [len(rows) for rows in ids(dataset)] == [8, 8, 8, 8, 0, 1] * 2
    assert int(dataset.cardinality()) == 12
    assert sorted(row for rows in ids(dataset)[:6] for row in rows) == sorted(train[:33].take(range(33))["id"].tolist())


def test_what_cannot_be(train: sw.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"transform: not with TensorFlow.*\.map\(\)"):
        swf.dataset(train.loader(batch_size=4, world=sw.World(), transform=lambda batch: batch))
    with pytest.raises(ConfigError, match="replicas: expected at least 1, found 0"):
        swf.dataset(train.loader(batch_size=4, world=sw.World()), replicas=0)


def test_errors_reach_the_trainer_with_their_text(tmp_path: Path) -> None:
    publish(tmp_path / "d", {"train": digits(40)})
    loader = sw.open_dataset(str(tmp_path / "d")).loader(batch_size=16, world=sw.World(), epochs=1)
    (tmp_path / "d/v000001/train/shard=00002/part-00000.parquet").unlink()
    with pytest.raises(tf.errors.OpError, match=r"CorruptError: .*shard=00002/part-00000\.parquet"):
        list(swf.dataset(loader))
