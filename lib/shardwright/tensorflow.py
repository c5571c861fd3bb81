"""Batches as a `tf.data.Dataset`: ``import shardwright.tensorflow as swf; swf.dataset(train.loader(batch_size=256))``."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import ConfigError, MissingDependencyError
from shardwright.format.batch import mask_name
from shardwright.format.layout import KEY, PAD
from shardwright.hashing import KEY_BYTES
from shardwright.reader import Loader
from shardwright.schema import Field

try:
    import tensorflow as tf
except ImportError as error:
    raise MissingDependencyError(
        f"shardwright.tensorflow needs TensorFlow, which can't be imported ({error}): pip install 'shardwright[tensorflow]'"
    ) from error

Batch = dict[str, npt.NDArray[Any]]


def dataset(loader: Loader, *, replicas: int = 1) -> Any:
    """The batches of `loader`, from its state now to the end of its last epoch, as a `tf.data.Dataset` of dicts.

    It is a value, as every `tf.data.Dataset` is: each iteration begins at the same batch, and `loader` stays where it is. Since
    TensorFlow takes batches ahead of the trainer, the state to save is ``loader.state_after(steps)``, with the trainer's own
    count. One epoch follows the other; the cardinality is that of all of them, infinite without ``epochs=``. Auto-sharding is
    off: the loader's world has sharded already.

    The batch size is what this process takes in a step; a strategy divides it among the process's replicas:
    `experimental_distribute_dataset` does so by itself, `distribute_datasets_from_function` expects a batch for each replica,
    so there `replicas` (``ctx.num_replicas_in_sync // ctx.num_input_pipelines``) cuts every batch into so many.

    docs/batches.md says what each kind of field becomes. Shapes are static, the batch dimension too with ``last="drop"`` or
    ``"pad"``. Raises ConfigError for a loader with a `transform` (that is what `.map` is for) and for `replicas` below 1.
    """
    if loader.options.transform is not None:
        raise ConfigError(["transform: not with TensorFlow, which has to know its result; use .map() of the tf.data.Dataset"])
    if replicas < 1:
        raise ConfigError([f"replicas: expected at least 1, found {replicas!r}"])
    columns = _columns(loader, _rows(loader, replicas))
    stored = {name: spec for column in columns for name, spec in column.stored.items()}
    state = loader.state_dict()

    def batches() -> Iterator[Batch]:
        own = _alone(loader)  # this iteration's: several may run at once, in threads of TensorFlow
        own.load_state_dict(state)
        while loader.options.epochs is None or own.epoch < loader.options.epochs:
            for batch in own:
                for rows in _cuts(len(next(iter(batch.values()))), replicas):
                    yield {name: array for column in columns for name, array in column.store(batch, rows).items()}

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return (
        tf.data.Dataset.from_generator(batches, output_signature=stored)
        .map(lambda flat: {column.name: column.tensor(flat) for column in columns})
        .apply(tf.data.experimental.assert_cardinality(_cardinality(loader, replicas)))
        .with_options(options)
    )


class _Column:
    """One tensor of a batch: what Python hands to TensorFlow for it (`stored`), and how the graph makes it from that."""

    def __init__(self, name: str, spec: Any) -> None:
        self.name = name
        self.stored = {name: spec}

    def store(self, batch: Batch, rows: slice) -> Batch:
        """The arrays that `stored` declares, for some rows of a batch."""
        values = batch[self.name][rows]
        return {self.name: values.view(np.int64) if values.dtype.kind == "M" else values}  # microseconds since 1970

    def tensor(self, flat: dict[str, Any]) -> Any:
        """The tensor, in the graph."""
        return flat[self.name]


class _Texts(_Column):
    """Strings and bytes; empty where missing."""

    def store(self, batch: Batch, rows: slice) -> Batch:
        values = batch[self.name][rows]
        out = np.empty(len(values), object)
        out[:] = [value.encode() if isinstance(value, str) else value or b"" for value in values]
        return {self.name: out}


class _Missing(_Column):
    """Where the None are in an object array, whose own tensor can't hold them."""

    def __init__(self, of: str, spec: Any) -> None:
        super().__init__(mask_name(of), spec)
        self._of = of

    def store(self, batch: Batch, rows: slice) -> Batch:
        values = batch[self._of][rows]
        return {self.name: np.fromiter((value is None for value in values), bool, len(values))}


class _Ragged(_Column):
    """Arrays of several shapes: all their values, and the lengths of each dimension up to the last that varies."""

    def __init__(self, field: Field, dtype: npt.DTypeLike) -> None:
        depth = max(axis for axis, size in enumerate(field.shape) if size is None) + 1
        self._lengths = [f"{field.name}/{axis}" for axis in range(depth)]
        self._inner = tuple(size or 0 for size in field.shape[depth:])
        self._dtype = np.dtype(dtype)
        super().__init__(field.name, tf.TensorSpec((None, *self._inner), self._dtype))
        self.stored |= {name: tf.TensorSpec((None,), tf.int64) for name in self._lengths}

    def store(self, batch: Batch, rows: slice) -> Batch:
        depth = len(self._lengths)
        missing = np.zeros((*(0 for _ in range(depth)), *self._inner), self._dtype)
        values = [missing if value is None else value for value in batch[self.name][rows]]
        flat = [value.reshape(-1, *self._inner) if value.size else missing.reshape(0, *self._inner) for value in values]
        out = {self.name: np.concatenate(flat) if flat else missing.reshape(0, *self._inner)}
        for axis, name in enumerate(self._lengths):  # as often as the dimensions before say
            lengths = [value.shape[axis] for value in values]
            out[name] = np.repeat(lengths, [math.prod(value.shape[:axis]) for value in values]).astype(np.int64)
        return out

    def tensor(self, flat: dict[str, Any]) -> Any:
        lengths = [flat[name] for name in self._lengths]
        return tf.RaggedTensor.from_nested_row_lengths(flat[self.name], lengths, validate=False)


def _columns(loader: Loader, rows: int | None) -> list[_Column]:
    """The columns that each batch has, in order; `rows` is the static batch dimension."""
    mask = tf.TensorSpec((rows,), tf.bool)
    out: list[_Column] = []
    schema = loader.schema
    for name in loader.dataset.source.names:
        if name == KEY:
            out.append(_Column(KEY, tf.TensorSpec((rows, KEY_BYTES), tf.uint8)))
        elif name != PAD:
            field = schema[name]
            objects = field.dtype in ("string", "bytes") or None in field.shape
            out.append(_field(field, rows, normalised=name in loader.normalised))
            if field.nullable:
                out.append(_Missing(name, mask) if objects else _Column(mask_name(name), mask))
    if PAD in loader.dataset.source.names or loader.options.last == "pad":
        out.append(_Column(PAD, mask))
    return out


def _field(field: Field, rows: int | None, *, normalised: bool) -> _Column:
    dtype = np.dtype(np.float32) if normalised else field.numpy_dtype
    if None in field.shape:
        return _Ragged(field, dtype)
    if field.dtype in ("string", "bytes"):
        return _Texts(field.name, tf.TensorSpec((rows,), tf.string))
    return _Column(field.name, tf.TensorSpec((rows, *field.shape), np.int64 if dtype.kind == "M" else dtype))


def _rows(loader: Loader, replicas: int) -> int | None:
    """The static batch dimension, where there is one."""
    whole = loader.options.last != "short" and loader.options.batch_size % replicas == 0
    return loader.options.batch_size // replicas if whole else None


def _cuts(samples: int, pieces: int) -> Iterator[slice]:
    """As many pieces, as equal as possible: also of a short batch, so that no piece of the next epoch shares a step with it."""
    return (slice(samples * piece // pieces, samples * (piece + 1) // pieces) for piece in range(pieces))


def _cardinality(loader: Loader, replicas: int) -> int:
    epochs = loader.options.epochs
    if epochs is None:
        return int(tf.data.experimental.INFINITE_CARDINALITY)
    batches = loader.remaining + (epochs - loader.epoch - 1) * len(loader) if loader.epoch < epochs else 0
    return batches * replicas


def _alone(loader: Loader) -> Loader:
    """A loader of the same batches with files and caches of its own, which are not made for several threads."""
    own = copy.copy(loader.dataset)
    own.source = copy.copy(own.source)
    return Loader(own, loader.options)
