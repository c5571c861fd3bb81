"""`make_petastorm_dataset` and `tf_tensors`: what a reader hands out, for TensorFlow.

Semantics: petastorm 0.13.1, ``tf_utils.py``. `tf_tensors` is for graphs and sessions of TensorFlow 1, as in `tf.compat.v1`.
"""

from __future__ import annotations

import datetime
import warnings
from calendar import timegm
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf  # whose Dataset is TensorFlow 2's too, and has make_one_shot_iterator

from shardwright.petastorm.unischema import Unischema, row_class

RANDOM_SHUFFLING_QUEUE_SIZE = "random_shuffling_queue_size"
"""The operation of a graph that says how many rows wait in the queue of `tf_tensors`."""
_TF_TYPES = {
    np.int8: tf.int8, np.int16: tf.int16, np.int32: tf.int32, np.int64: tf.int64,
    np.uint8: tf.uint8, np.uint16: tf.int32, np.uint32: tf.int64, np.uint64: tf.uint64,
    np.float16: tf.float16, np.float32: tf.float32, np.float64: tf.float64,
    np.bytes_: tf.string, np.str_: tf.string, np.bool_: tf.bool, Decimal: tf.string, np.datetime64: tf.int64,
}  # fmt: skip


def make_petastorm_dataset(reader: Any) -> tf.data.Dataset:
    """The rows (batches, or with an NGram windows) of a reader, as namedtuples of tensors.

    Iterating a second time resets the reader, with a warning: `num_epochs` of the reader, or `cache()` of the dataset, cost
    less. What TensorFlow lacks is converted: Decimal to a string, uint16 to int32, uint32 to int64, times to int64 nanoseconds
    since 1970. Raises ValueError for a field of another type, RuntimeError for a None.
    """
    if reader.ngram is None:
        shape = (None,) if reader.batched_output else ()
        signature = _signature(reader.schema, shape)
        return tf.data.Dataset.from_generator(lambda: map(_converted, _again(reader)), output_signature=signature)
    windows = {offset: _signature(view, ()) for offset, view in _views(reader).items()}
    return tf.data.Dataset.from_generator(
        lambda: ({offset: _converted(row) for offset, row in window.items()} for window in _again(reader)),
        output_signature=windows,
    )


def tf_tensors(reader: Any, shuffling_queue_capacity: int = 0, min_after_dequeue: int = 0) -> Any:
    """Tensors of a graph that are the next row (batch, or with an NGram a dict of offset -> row) each time they are run.

    With `shuffling_queue_capacity` rows go through a `RandomShuffleQueue` of so many, which keeps `min_after_dequeue`; its size
    is the graph's `random_shuffling_queue_size`. The end of the reader is an `OutOfRangeError`. New code is better off with
    `make_petastorm_dataset`. Raises ValueError for a queue with batches.
    """
    if reader.batched_output and shuffling_queue_capacity > 0:
        raise ValueError(
            "shuffling_queue_capacity can not be used with a reader that produces batched_output, since each batch is a "
            "parquet read rowgroup. Extra shuffling of the batches does not further decrease correlation."
        )
    views = [(None, reader.schema)] if reader.ngram is None else list(_views(reader).items())
    fields = [field for _, view in views for field in view.fields.values()]
    types = [_tf_type(field.name, field.numpy_dtype) for field in fields]
    tensors = tf.py_func(lambda _: _flat(next(reader), [offset for offset, _ in views]), [tf.constant(1)], types)
    if shuffling_queue_capacity > 0:
        queue = tf.RandomShuffleQueue(shuffling_queue_capacity, min_after_dequeue, types)
        queue.size(name=RANDOM_SHUFFLING_QUEUE_SIZE)
        tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue(tensors)]))
        tensors = queue.dequeue()
    if len(fields) == 1 and not isinstance(tensors, (list, tuple)):
        tensors = [tensors]
    rows = (None,) if reader.batched_output else ()
    for tensor, field in zip(tensors, fields, strict=True):
        tensor.set_shape((*rows, *field.shape))
    left = iter(tensors)
    made = {offset: row_class(view)(*(next(left) for _ in view.fields)) for offset, view in views}
    return made if reader.ngram is not None else made[None]


def _views(reader: Any) -> dict[int, Unischema]:
    """The schema of the rows at each offset of a reader's windows."""
    offsets = range(min(reader.ngram.fields), max(reader.ngram.fields) + 1)
    return {offset: reader.ngram.get_schema_at_timestep(reader.schema, offset) for offset in offsets}


def _flat(row: Any, offsets: list[int | None]) -> list[Any]:
    """The values of a row, or of the rows of a window, one after the other."""
    rows = [row if offset is None else row[offset] for offset in offsets]
    values = [value for one in rows for value in _converted(one)]
    return [value.tolist() if _is_text(value) else value for value in values]


def _is_text(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "SU" and value.size > 0


def _again(reader: Any) -> Iterator[Any]:
    """What is left of the reader; all of it where nothing is."""
    if reader.last_row_consumed:
        warnings.warn(
            "Running multiple iterations over make_petastorm_dataset is not recommend for performance issue. Use Reader's "
            "num_epochs contructor arguments to set number of iterations,or use tf.data.Dataset's cache() function to cache "
            "data of first iteration beforecalling 'repeat' method of Datset class.",
            stacklevel=2,
        )
        reader.reset()
    return iter(reader)


def _signature(schema: Unischema, rows: tuple[None, ...]) -> Any:
    """A row's tensors: dtype and shape of each field."""
    return row_class(schema)(
        *(tf.TensorSpec((*rows, *field.shape), _tf_type(field.name, field.numpy_dtype)) for field in schema.fields.values())
    )


def _tf_type(name: str, numpy_dtype: Any) -> tf.DType:
    if numpy_dtype not in _TF_TYPES:
        raise ValueError(f"field {name!r}: Unknown mapping of numpy {numpy_dtype} to tensorflow dtype")
    return _TF_TYPES[numpy_dtype]


def _converted(row: Any) -> Any:
    return row._replace(**{name: _value(name, value) for name, value in zip(row._fields, row, strict=True)})


def _value(name: str, value: Any) -> Any:
    if value is None:
        raise RuntimeError(
            f'Encountered "{name}"=None. Tensorflow does not support None values as a tensor.'
            "Consider filtering out these rows using a predicate."
        )
    if isinstance(value, Decimal):
        return str(value.normalize())
    if isinstance(value, np.datetime64):
        return np.int64(value.astype("datetime64[ns]").astype(np.int64))
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "M":
        return value.astype("datetime64[ns]").astype(np.int64)
    if value.dtype == np.uint16:
        return value.astype(np.int32)
    if value.dtype == np.uint32:
        return value.astype(np.int64)
    if value.dtype.kind == "O" and len(value) and isinstance(value[0], datetime.date):
        return np.array([timegm(day.timetuple()) * 1_000_000_000 for day in value], np.int64)
    if value.dtype.kind == "O" and len(value) and isinstance(value[0], Decimal):
        return np.array([str(number.normalize()) for number in value])
    return value
