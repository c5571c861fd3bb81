"""The same for whole columns: tensors go in, batches come out.

Semantics: petastorm 0.13.1, ``reader_impl/pytorch_shuffling_buffer.py``. Tensors are kept as they came; nothing is concatenated
but what a batch takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from shardwright.petastorm.reader_impl.shuffling_buffer import check_room

Columns = Sequence[torch.Tensor]


class BatchedShufflingBufferBase(ABC):
    """What a loader asks of a buffer of columns; `batch_size` rows come out at a time, at the end fewer."""

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size

    def add_many(self, items: Iterable[Any]) -> None:
        """Put rows in: a tensor of them for each column. Raises RuntimeError where there is no room, and after `finish`."""
        self._add_many([torch.as_tensor(column) for column in items])

    @abstractmethod
    def _add_many(self, items: Columns) -> None: ...

    @abstractmethod
    def retrieve(self) -> list[torch.Tensor]:
        """Take a batch out."""

    @abstractmethod
    def can_add(self) -> bool:
        """Whether rows may be put in now."""

    @abstractmethod
    def can_retrieve(self) -> bool:
        """Whether a batch may be taken out now."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Rows in it."""

    @abstractmethod
    def finish(self) -> None:
        """Nothing more comes: all that is left may be taken out."""


class BatchedNoopShufflingBuffer(BatchedShufflingBufferBase):
    """First in, first out. A batch that lies within what was put in at once is a view of it."""

    def __init__(self, batch_size: int = 1) -> None:
        super().__init__(batch_size)
        self._pieces: deque[Columns] = deque()
        self._start = 0
        self._size = 0
        self._done_adding = False

    def _add_many(self, items: Columns) -> None:
        if len(items[0]):
            self._pieces.append(items)
            self._size += len(items[0])

    def retrieve(self) -> list[torch.Tensor]:
        """The oldest rows."""
        wanted = min(self._size, self.batch_size)
        self._size -= wanted
        found: list[list[torch.Tensor]] = []
        while wanted:
            piece = self._pieces[0]
            stop = min(self._start + wanted, len(piece[0]))
            found.append([column[self._start : stop] for column in piece])
            wanted -= stop - self._start
            self._start = stop
            if stop == len(piece[0]):
                self._pieces.popleft()
                self._start = 0
        return found[0] if len(found) == 1 else [torch.cat(columns) for columns in zip(*found, strict=True)]

    def can_add(self) -> bool:
        """Yes."""
        return True

    def can_retrieve(self) -> bool:
        """While there is a batch, after `finish` any row."""
        return self._size > 0 if self._done_adding else self._size >= self.batch_size

    @property
    def size(self) -> int:
        """Rows in it."""
        return self._size

    def finish(self) -> None:
        """The rest may be taken out."""
        self._done_adding = True


class BatchedRandomShufflingBuffer(BatchedShufflingBufferBase):
    """Random rows out, once more than `min_after_retrieve` are in.

    `shuffling_buffer_capacity`: while so many are in it, none can be added; one call may take it `extra_capacity` beyond. Rows
    lie in one tensor a column; those that are taken are drawn by one permutation for all that are in it, anew after each
    `add_many`. `seed` makes the order reproducible; None: PyTorch's own generator.
    """

    def __init__(
        self,
        shuffling_buffer_capacity: int,
        min_after_retrieve: int,
        extra_capacity: int = 1000,
        batch_size: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size)
        self._capacity, self._most = shuffling_buffer_capacity, shuffling_buffer_capacity + extra_capacity
        self._least = min_after_retrieve
        self._items: list[torch.Tensor] = []
        self._size = 0
        self._order: torch.Tensor | None = None
        """Places of the rows that are left, in the order that they are taken; None: the first `_size`."""
        self._done_adding = False
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def _add_many(self, items: Columns) -> None:
        check_room(self, len(items[0]), self._most, finished=self._done_adding)
        self._compact()
        size = self._size + len(items[0])
        if not self._items or size > len(self._items[0]):
            self._grow(items, max(self._capacity, 2 * size if self._items else size))
        for kept, column in zip(self._items, items, strict=True):
            kept[self._size : size] = column
        self._size = size

    def retrieve(self) -> list[torch.Tensor]:
        """Some of them, each as likely. Raises RuntimeError where too few are left."""
        if not self.can_retrieve():
            raise RuntimeError(
                "Can not dequeue. Check the return value of 'can_retrieve()' to check if any items are available."
            )
        if self._order is None:
            self._order = torch.randperm(self._size, generator=self._generator, device=self._items[0].device)
        taken = self._order[: self.batch_size]
        self._order = self._order[self.batch_size :]
        self._size -= len(taken)
        return [column.index_select(0, taken) for column in self._items]  # twice as fast as column[taken]

    def can_add(self) -> bool:
        """Below the capacity, and before `finish`."""
        return self._size < self._capacity and not self._done_adding

    def can_retrieve(self) -> bool:
        """While enough are in it, after `finish` any."""
        return self._size >= self._least + self.batch_size - 1 or (self._done_adding and self._size > 0)

    @property
    def size(self) -> int:
        """Rows in it."""
        return self._size

    def finish(self) -> None:
        """The rest may be taken out."""
        self._done_adding = True

    def _compact(self) -> None:
        """Let the rows that are left be the first ones."""
        if self._order is not None:
            left = self._order.sort().values
            for column in self._items:
                column[: self._size] = column.index_select(0, left)
            self._order = None

    def _grow(self, like: Columns, rows: int) -> None:
        grown = [torch.empty((rows, *column.shape[1:]), dtype=column.dtype, device=column.device) for column in like]
        for new, old in zip(grown, self._items, strict=bool(self._items)):
            new[: self._size] = old[: self._size]
        self._items = grown
