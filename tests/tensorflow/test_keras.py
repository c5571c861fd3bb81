"""`model.fit`, stopped and resumed: every sample is trained on once per epoch, as the model itself counts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import shardwright as sw
import shardwright.keras as swk
import shardwright.tensorflow as swf
from shardwright.errors import ConfigError, StateError
from shardwright.schema import Field, Schema
from tests.datasets import publish

# Keras's variables have an __array__ of the time before NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

SAMPLES = 70
SCHEMA = Schema(fields=(Field(name="x", dtype="float32"), Field(name="id", dtype="int64")))


class StoppedError(Exception):
    """The run ends here, as if it had been killed."""


class StopAt(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type information
    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if not self.left:
            raise StoppedError


class Counting(keras.Model):  # type: ignore[misc]
    """Counts in its weights how often it was given each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seen = self.add_weight(shape=(SAMPLES,), initializer="zeros", trainable=False, name="seen")
        self.build((None, 1))
        self.compile(optimizer="adam", loss="mse")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> Any:
        x, ids = data
        self.seen.assign_add(tf.reduce_sum(tf.one_hot(ids, SAMPLES), 0))
        return super().train_step((x, x * 3))


@pytest.fixture
def train(tmp_path: Path) -> sw.Dataset:
    publish(tmp_path / "d", {"train": {"x": np.linspace(0, 1, SAMPLES, dtype="f4"), "id": range(SAMPLES)}}, SCHEMA, shards=2)
    return sw.open_dataset(str(tmp_path / "d"))


def fit(train: sw.Dataset, folder: Path, *callbacks: Any, epochs: int = 3, every: int | None = None) -> Counting:
    """As docs/examples/train_keras.py does it."""
    loader = train.loader(batch_size=16, world=sw.World(), seed=1, epochs=epochs)
    backup = swk.Backup(folder, loader, every=every)
    model = Counting()
    ends = [loader.epoch + 1, epochs] if loader.remaining < len(loader) else [epochs]
    for end in ends:
        model.fit(
            swf.dataset(loader).map(lambda batch: (batch["x"][:, None], batch["id"])), steps_per_epoch=loader.remaining,
            initial_epoch=loader.epoch, epochs=end, verbose=0, shuffle=False, callbacks=[backup, *callbacks],
        )  # fmt: skip
    assert (loader.epoch, loader.remaining) == (epochs, len(loader))
    return model


def test_an_uninterrupted_run(train: sw.Dataset, tmp_path: Path) -> None:
    model = fit(train, tmp_path / "run")
    assert model.seen.numpy().tolist() == [3] * SAMPLES
    assert int(model.optimizer.iterations.numpy()) == 15


def test_under_a_strategy_keras_looks_at_a_batch_first(train: sw.Dataset, tmp_path: Path) -> None:
    """To build the model: that batch is not lost."""
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = fit(train, tmp_path / "run")
    assert model.seen.numpy().tolist() == [3] * SAMPLES


@pytest.mark.parametrize("every, stop", [(None, 8), (2, 8), (2, 9), (3, 5), (1, 14), (4, 3)])
def test_a_stopped_run_continues_with_the_next_sample(train: sw.Dataset, tmp_path: Path, every: int | None, stop: int) -> None:
    with pytest.raises(StoppedError):
        fit(train, tmp_path / "run", StopAt(stop), every=every)
    model = fit(train, tmp_path / "run", every=every)
    assert model.seen.numpy().tolist() == [3] * SAMPLES
    assert int(model.optimizer.iterations.numpy()) == 15, "the optimiser continues too"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["00003-000000000000.weights.h5", "backup.json"]


def test_a_longer_run_continues_a_finished_one(train: sw.Dataset, tmp_path: Path) -> None:
    fit(train, tmp_path / "run", epochs=1)
    assert fit(train, tmp_path / "run", epochs=3).seen.numpy().tolist() == [3] * SAMPLES


def test_the_state_of_another_order_is_refused(train: sw.Dataset, tmp_path: Path) -> None:
    fit(train, tmp_path / "run", epochs=1)
    with pytest.raises(StateError, match=r"seed 1 \(this loader: 2\)"):
        swk.Backup(tmp_path / "run", train.loader(batch_size=16, world=sw.World(), seed=2))


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "backup.json: expected a backup, .*delete"),
        ('{"format_version": 1}', "expected a backup, KeyError"),
        ('{"format_version": 2, "weights": "a", "loader": {}}', "format_version 2, newer than 1; upgrade"),
        ('{"format_version": 1, "weights": "a.weights.h5", "loader": {}}', "names a.weights.h5, which is not there"),
    ],
)
def test_a_damaged_backup_says_so(train: sw.Dataset, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/backup.json").write_text(content)
    with pytest.raises(StateError, match=message):
        swk.Backup(tmp_path / "run", train.loader(batch_size=16, world=sw.World()))


def test_a_model_without_weights_is_refused(train: sw.Dataset, tmp_path: Path) -> None:
    fit(train, tmp_path / "run", epochs=1)
    loader = train.loader(batch_size=16, world=sw.World(), seed=1, epochs=2)
    backup = swk.Backup(tmp_path / "run", loader)
    backup.set_model(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(StateError, match=r"begin the model with keras.Input, or call model.build before fit"):
        backup.on_train_begin()
    with pytest.raises(ConfigError, match="every: expected at least 1 step, found 0"):
        swk.Backup(tmp_path / "other", loader, every=0)


def test_the_backup_is_json(train: sw.Dataset, tmp_path: Path) -> None:
    fit(train, tmp_path / "run", epochs=1)
    found = json.loads((tmp_path / "run/backup.json").read_text())
    assert found["loader"]["epoch"] == 1
    assert found["weights"] == "00001-000000000000.weights.h5"
