"""Buffers that rows go through on their way to a batch, and come out of in another order.

Semantics: petastorm 0.13.1, ``reader_impl/shuffling_buffer.py``. Not for several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


class ShufflingBufferBase(ABC):
    """What a loader asks of a buffer."""

    @abstractmethod
    def add_many(self, items: Sequence[Any]) -> None:
        """Put items in. Raises RuntimeError where there is no room, and after `finish`."""

    @abstractmethod
    def retrieve(self) -> Any:
        """Take one out. Raises RuntimeError where `can_retrieve` says no."""

    @abstractmethod
    def can_add(self) -> bool:
        """Whether items may be put in now."""

    @abstractmethod
    def can_retrieve(self) -> bool:
        """Whether one may be taken out now."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Items in it."""

    @abstractmethod
    def finish(self) -> None:
        """Nothing more comes: all that is left may be taken out."""


class NoopShufflingBuffer(ShufflingBufferBase):
    """First in, first out."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()

    def add_many(self, items: Iterable[Any]) -> None:
        """Always takes them."""
        self._items.extend(items)

    def retrieve(self) -> Any:
        """The oldest."""
        return self._items.popleft()

    def can_add(self) -> bool:
        """Yes."""
        return True

    def can_retrieve(self) -> bool:
        """While there are any."""
        return bool(self._items)

    @property
    def size(self) -> int:
        """Items in it."""
        return len(self._items)

    def finish(self) -> None:
        """Changes nothing."""


class RandomShufflingBuffer(ShufflingBufferBase):
    """A random one out, once more than `min_after_retrieve` are in.

    `shuffling_buffer_capacity`: while so many are in it, none can be added; one call may take it `extra_capacity` beyond.
    `seed` makes the order reproducible; None: another one each time.
    """

    def __init__(
        self, shuffling_buffer_capacity: int, min_after_retrieve: int, extra_capacity: int = 1000, seed: int | None = None
    ) -> None:
        self._capacity, self._most = shuffling_buffer_capacity, shuffling_buffer_capacity + extra_capacity
        self._least = min_after_retrieve
        self._items: list[Any] = []
        self._finished = False
        self._generator = np.random.default_rng(seed)

    def add_many(self, items: Sequence[Any]) -> None:
        """Raises RuntimeError where it is full or finished."""
        check_room(self, len(items), self._most, finished=self._finished)
        self._items.extend(items)

    def retrieve(self) -> Any:
        """One of them, each as likely. Raises RuntimeError where too few are left."""
        if not self.can_retrieve():
            raise RuntimeError(
                "Can not dequeue. Check the return value of 'can_retrieve()' to check if any items are available."
            )
        place = int(self._generator.integers(len(self._items)))
        self._items[place], self._items[-1] = self._items[-1], self._items[place]
        return self._items.pop()

    def can_add(self) -> bool:
        """Below the capacity, and before `finish`."""
        return len(self._items) < self._capacity and not self._finished

    def can_retrieve(self) -> bool:
        """While enough are in it, after `finish` any."""
        return len(self._items) >= self._least or (self._finished and bool(self._items))

    @property
    def size(self) -> int:
        """Items in it."""
        return len(self._items)

    def finish(self) -> None:
        """The rest may be taken out."""
        self._finished = True


def check_room(buffer: Any, count: int, most: int, *, finished: bool) -> None:
    """Raise RuntimeError unless `count` items may be put into a buffer that holds `most`."""
    if finished:
        raise RuntimeError("Can not call add_many after done_adding() was called.")
    if not buffer.can_add():
        raise RuntimeError("Can not enqueue. Check the return value of 'can_add()' to check if more items can be added.")
    if buffer.size + count > most:
        raise RuntimeError(
            "Attempt to enqueue more elements than the capacity allows. "
            f"Current size: {buffer.size}, new size {buffer.size + count}, maximum allowed: {most}"
        )
