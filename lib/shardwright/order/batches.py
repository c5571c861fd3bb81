"""Which positions a rank takes: global batches of G = batch_size x W positions, and the end of an epoch.

With s samples consumed of the epoch by all ranks, the next global batches are [s, s + G), [s + G, s + 2G), … to the epoch's
end. A rank takes the positions that are its turn modulo W, in ascending order, so its positions from s on are an arithmetic
progression. Every rank has the same number of batches, of the same sizes, always; a batch never spans two epochs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shardwright.order.world import World

Last = Literal["short", "drop", "pad"]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of one rank in an epoch of `total` samples, from `consumed` on.

    `last` says what becomes of the r < G samples after the last whole global batch: ``short`` serves the first
    W x floor(r / W) of them (at most W - 1 are left out), ``drop`` none, ``pad`` all of them and repeats some. A repeated
    position g stands for g modulo `wrap`: the epoch's first samples, from the same shard that position g would lie in.
    """

    world: World
    batch_size: int
    total: int
    consumed: int
    last: Last
    wrap: int
    first: int = 0
    step: int = 1
    """Only the batches number first, first + step, … are these: what one of `step` workers of this rank makes."""

    @functools.cached_property
    def samples(self) -> int:
        """How many samples this rank still takes in the epoch, repeated ones included."""
        whole, rest = divmod(max(self.total - self.consumed, 0), self.batch_size * self.world.size)
        if self.last == "drop":
            return whole * self.batch_size
        if self.last == "pad":
            return (whole + (rest > 0)) * self.batch_size
        return whole * self.batch_size + rest // self.world.size

    def __len__(self) -> int:
        """How many batches this rank, like every other, still takes in the epoch."""
        return len(range(self.first, (self.samples + self.batch_size - 1) // self.batch_size, self.step))

    @property
    def dropped(self) -> int:
        """How many samples of the epoch's rest no rank takes."""
        return max(self.total - self.consumed - self.samples * self.world.size, 0)

    def positions(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
        """This rank's samples number `start` to `stop` of these batches: their positions, int64, which repeat (None: none)."""
        origin = self.consumed + (self.world.turn - self.consumed) % self.world.size
        numbers = np.arange(start, min(stop, self.samples), dtype=np.int64)
        if (self.first, self.step) != (0, 1):
            numbers = (self.first + numbers // self.batch_size * self.step) * self.batch_size + numbers % self.batch_size
            numbers = numbers[numbers < self.samples]
        positions = origin + self.world.size * numbers
        if self.last != "pad":
            return positions, None
        padded = positions >= self.total
        positions[padded] %= self.wrap
        return positions, padded

    def consumed_after(self, batch: int) -> int | None:
        """Samples consumed by all ranks after number `batch` of these batches; None: that was the last of them."""
        if batch + 1 >= len(self):
            return None
        return self.consumed + (self.first + batch * self.step + 1) * self.batch_size * self.world.size
