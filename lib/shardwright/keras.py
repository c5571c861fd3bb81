"""Stopping and resuming `model.fit` to the sample: ``import shardwright.keras as swk; swk.Backup("run", loader)``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from shardwright.errors import ConfigError, MissingDependencyError, StateError
from shardwright.reader import Loader

try:
    import keras
except ImportError as error:
    raise MissingDependencyError(
        f"shardwright.keras needs Keras, which can't be imported ({error}): pip install 'shardwright[tensorflow]'"
    ) from error

_VERSION = 1
_NAME = "backup.json"


class Backup(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type information
    """Saves the model, its optimiser and the place in the data together, at the end of each epoch and `every` so many steps.

    Make it before the dataset: where `directory` holds a backup, it brings `loader` to the next batch that the stopped run
    would have taken; the weights follow when `fit` begins. `fit` has to be given the batches of `loader` alone, one a step.
    When it has ended, `loader` stands after the last batch that the model has seen: what is made from it then continues there.

    A backup is complete or not there: the weights are written under a new name, then `backup.json`, which names them, is
    replaced. `directory` is local; with several processes each needs its own. Raises StateError for a backup of another dataset
    or order, or one that is damaged, ConfigError for an `every` below 1.
    """

    def __init__(self, directory: str | os.PathLike[str], loader: Loader, *, every: int | None = None) -> None:
        super().__init__()
        if every is not None and every < 1:
            raise ConfigError([f"every: expected at least 1 step, found {every!r}"])
        self._directory, self._loader, self._every = Path(directory), loader, every
        self._done = self._in_epoch = 0
        self._saved: dict[str, Any] | None = None
        self._weights = self._restore_loader()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras's
        """Load the weights of the backup that was found, once."""
        if self._weights is None:
            return
        if not self.model.built:
            raise StateError(
                f"{self._weights} can't be loaded into a model that has no weights yet: begin the model with keras.Input, or "
                "call model.build before fit"
            )
        if self.model.optimizer is not None and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(self._weights)
        self._weights = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras's
        """Count, and save when it is time."""
        before, self._in_epoch = self._in_epoch, batch + 1
        if self._every and (self._done + self._in_epoch) // self._every > (self._done + before) // self._every:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras's
        """Save."""
        self._done, self._in_epoch = self._done + self._in_epoch, 0
        self._save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras's
        """Move the loader to where the model is."""
        self._loader.load_state_dict(self._loader.state_after(self._done))
        self._done = 0

    def _restore_loader(self) -> Path | None:
        """The weights of the backup, if there is one."""
        path = self._directory / _NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
            version, weights, state = int(found["format_version"]), str(found["weights"]), dict(found["loader"])
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path}: expected a backup, {error!r}; delete {self._directory} to begin anew") from error
        if version > _VERSION:
            raise StateError(f"{path}: format_version {version}, newer than {_VERSION}; upgrade shardwright")
        if not (self._directory / weights).is_file():
            raise StateError(f"{path} names {weights}, which is not there; delete {self._directory} to begin anew")
        self._loader.load_state_dict(state)
        self._saved = state
        return self._directory / weights

    def _save(self) -> None:
        state = self._loader.state_after(self._done + self._in_epoch)
        if state == self._saved:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{state['epoch']:05d}-{state['samples_consumed']:012d}.weights.h5"
        self.model.save_weights(self._directory / name, overwrite=True)
        partial = self._directory / f"{_NAME}.partial"
        partial.write_text(json.dumps({"format_version": _VERSION, "weights": name, "loader": state}), encoding="utf-8")
        partial.replace(self._directory / _NAME)
        for old in self._directory.glob("*.weights.h5"):
            if old.name != name:
                old.unlink()
        self._saved = state
