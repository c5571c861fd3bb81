"""PyTorch loaders over a reader: `DataLoader`, `BatchedDataLoader`, `InMemBatchedDataLoader`.

Semantics: petastorm 0.13.1, ``pytorch.py``. Beyond it: `seed` makes shuffling reproducible, and `state_dict` resumes exactly
where nothing is shuffled by the loader.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data.dataloader import default_collate

from shardwright.petastorm.reader_impl.pytorch_shuffling_buffer import (
    BatchedNoopShufflingBuffer,
    BatchedRandomShufflingBuffer,
    BatchedShufflingBufferBase,
)
from shardwright.petastorm.reader_impl.shuffling_buffer import NoopShufflingBuffer, RandomShufflingBuffer, ShufflingBufferBase

_log = logging.getLogger(__name__)
_NO_LIMIT = 100_000_000
"""Rows that one row group may take a buffer beyond its capacity."""
_PROMOTED = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.bool_): np.uint8}
_UNFINISHED = (
    "You must finish a full pass of Petastorm DataLoader before making another pass from the beginning.If you do need to "
    "terminate early and restart from beginning, please re-create the reader and the data loader."
)
TransformFn = Callable[[Any], torch.Tensor]


def decimal_friendly_collate(batch: Sequence[Any]) -> Any:
    """`default_collate`, which leaves lists of Decimals and of strings as they are."""
    first = batch[0]
    if isinstance(first, (Decimal, str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {key: decimal_friendly_collate([row[key] for row in batch]) for key in first}
    if isinstance(first, Sequence):
        return [decimal_friendly_collate(column) for column in zip(*batch, strict=True)]
    return default_collate(list(batch))


def _sanitize_pytorch_types(row_as_dict: dict[str, Any]) -> None:
    """Replace, in place, what PyTorch lacks: uint16 by int32, uint32 by int64, bool by uint8.

    Raises TypeError for None and for arrays of strings or objects.
    """
    for name, value in row_as_dict.items():
        if isinstance(value, np.ndarray):
            if value.dtype.kind in "SUO":
                raise TypeError(f"Pytorch does not support arrays of string or object classes. Found in field {name}.")
            if (promoted := _PROMOTED.get(value.dtype)) is not None:
                row_as_dict[name] = value.astype(promoted)
        elif isinstance(value, np.bool_):
            row_as_dict[name] = np.uint8(value)
        elif value is None:
            raise TypeError(f"Pytorch does not support nullable fields. Found None in {name}")


class LoaderBase(ABC):
    """One pass over a reader at a time; the next one begins with `reader.reset()`."""

    def __init__(self, reader: Any, batch_size: int) -> None:
        self.reader = reader
        self.batch_size = batch_size
        self._in_iter: bool | None = None
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        """The batches of a pass. Raises RuntimeError while another pass is not finished, and after one that failed."""
        if self._error is not None:
            raise RuntimeError(f"Cannot start a new iteration because last time iteration failed with error {self._error!r}.")
        if self._in_iter:
            raise RuntimeError(_UNFINISHED)
        if self._in_iter is not None:
            self.reader.reset()
            _log.warning("Start a new pass of Petastorm DataLoader, reset underlying Petastorm reader to position 0.")
        self._in_iter = True
        try:
            yield from self._iter_impl()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._in_iter = False

    @abstractmethod
    def _iter_impl(self) -> Iterator[Any]: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.stop()
        self.reader.join()

    def _rows(self) -> Iterator[dict[str, Any]]:
        """What the reader hands out, as dicts of what PyTorch takes."""
        for row in self.reader:
            values = dict(zip(row._fields, row, strict=True))
            _sanitize_pytorch_types(values)
            yield values


class DataLoader(LoaderBase):
    """Batches of `batch_size` rows, collated one by one; the last one may be smaller.

    With `shuffling_queue_capacity` rows go through a buffer of so many, which a random one comes out of.
    """

    def __init__(
        self,
        reader: Any,
        batch_size: int = 1,
        collate_fn: Callable[[list[Any]], Any] = decimal_friendly_collate,
        shuffling_queue_capacity: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(reader, batch_size)
        self.collate_fn = collate_fn
        self.shuffling_queue_capacity = shuffling_queue_capacity
        self._seed = seed

    def _iter_impl(self) -> Iterator[Any]:
        buffer = self._buffer()
        batch: list[Any] = []
        for row in self._rows():
            buffer.add_many(self._split(row) if self.reader.batched_output else [row])
            yield from self._full(buffer, batch)
        buffer.finish()
        yield from self._full(buffer, batch)
        if batch:
            yield self.collate_fn(batch)

    def _buffer(self) -> ShufflingBufferBase:
        capacity = self.shuffling_queue_capacity
        return RandomShufflingBuffer(capacity, capacity - 1, _NO_LIMIT, self._seed) if capacity > 0 else NoopShufflingBuffer()

    @staticmethod
    def _split(columns: dict[str, Any]) -> list[dict[str, Any]]:
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _full(self, buffer: ShufflingBufferBase, batch: list[Any]) -> Iterator[Any]:
        while buffer.can_retrieve():
            batch.append(buffer.retrieve())
            if len(batch) == self.batch_size:
                yield self.collate_fn(list(batch))
                batch.clear()


class BatchedDataLoader(LoaderBase):
    """The same for whole columns: faster, of numbers alone. `transform_fn` makes a tensor of a column (`torch.as_tensor`)."""

    def __init__(
        self,
        reader: Any,
        batch_size: int = 1,
        transform_fn: TransformFn | None = None,
        shuffling_queue_capacity: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(reader, batch_size)
        self.transform_fn: TransformFn = transform_fn or torch.as_tensor
        self.shuffling_queue_capacity = shuffling_queue_capacity
        self._seed = seed

    def _iter_impl(self) -> Iterator[dict[str, torch.Tensor]]:
        buffer = self._buffer()
        names: list[str] = []
        for columns in _tensors(self.reader, self._rows(), self.transform_fn):
            names = list(columns)
            buffer.add_many(columns.values())
            while buffer.can_retrieve():
                yield dict(zip(names, buffer.retrieve(), strict=True))
        buffer.finish()
        while buffer.can_retrieve():
            yield dict(zip(names, buffer.retrieve(), strict=True))

    def _buffer(self) -> BatchedShufflingBufferBase:
        least = self.shuffling_queue_capacity - 1
        if least < 0:
            return BatchedNoopShufflingBuffer(self.batch_size)
        return BatchedRandomShufflingBuffer(least + self.batch_size, least, _NO_LIMIT, self.batch_size, self._seed)


class InMemBatchedDataLoader:
    """Up to `rows_capacity` rows are read once, and then handed out in batches, `num_epochs` times.

    With `shuffle` in an order drawn from `seed` and the epoch. For one iteration; the reader is stopped when enough was read.
    """

    def __init__(
        self,
        reader: Any,
        batch_size: int = 1,
        transform_fn: TransformFn | None = None,
        num_epochs: int = 1,
        seed: int = 0,
        rows_capacity: int = 1024,
        shuffle: bool = False,
    ) -> None:
        self._batch_size, self._num_epochs, self._seed, self._shuffle = batch_size, num_epochs, seed, shuffle
        self._in_iter = False
        self._keys, self._buffer = _load_rows_into_mem(reader, transform_fn or torch.as_tensor, rows_capacity)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of all epochs. Raises RuntimeError the second time."""
        if self._in_iter:
            raise RuntimeError(
                "InMemBatchedDataLoader couldn't be used multiple times, please specify total number of epochs using "
                "num_epochs in constructor."
            )
        self._in_iter = True
        rows = len(self._buffer[0]) if self._buffer else 0
        for epoch in range(self._num_epochs):
            order = torch.arange(rows)
            if self._shuffle:
                order = torch.randperm(rows, generator=torch.Generator().manual_seed(self._seed + epoch))
            for taken in torch.split(order, self._batch_size) if rows else ():
                yield dict(zip(self._keys, (column[taken] for column in self._buffer), strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end: the reader has been stopped."""


def _load_rows_into_mem(reader: Any, transform_fn: TransformFn, rows_capacity: int) -> tuple[list[str], list[torch.Tensor]]:
    """The names of the columns, and tensors of the first rows; the reader is stopped."""
    buffer = BatchedNoopShufflingBuffer(rows_capacity)
    names: list[str] = []
    for columns in _tensors(reader, _sanitized(reader), transform_fn):
        names = list(columns)
        buffer.add_many(columns.values())
        if buffer.size >= rows_capacity:
            break
    reader.stop()
    reader.join()
    return names, [column.clone() for column in buffer.retrieve()] if buffer.size else []


def _sanitized(reader: Any) -> Iterator[dict[str, Any]]:
    for row in reader:
        values = dict(zip(row._fields, row, strict=True))
        _sanitize_pytorch_types(values)
        yield values


def _tensors(reader: Any, rows: Iterator[dict[str, Any]], transform_fn: TransformFn) -> Iterator[dict[str, torch.Tensor]]:
    """Columns of tensors; of single rows with an axis of one row."""
    for row in rows:
        yield {name: transform_fn(value if reader.batched_output else np.asarray([value])) for name, value in row.items()}
