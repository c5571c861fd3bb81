"""The order of an epoch: which sample lies at position g, a pure function of (content_id, seed, epoch, g).

Position g lies in shard g mod N, as that shard's sample number k = g // N in its order for (seed, epoch). Nothing here depends
on ranks, batches or memory; any position costs the same, so a reader can begin anywhere. Shuffles of one shard:

``none``    sample k.
``window``  the shard's blocks permuted, taken `window_blocks` at a time, samples permuted within each such group.
``global``  a permutation of the shard's samples.

Each permutation is a `shardwright.hashing.Permutation` with the key XXH3-64(text, seed), text being the UTF-8 bytes of
``order/{content_id}/{epoch}/{shard}/{what}``: `what` is ``samples`` (global), ``blocks``, or the number of the group (window).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import xxhash

from shardwright.errors import CorruptError
from shardwright.hashing import Permutation, mix64

Shuffle = Literal["none", "window", "global"]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything but the epoch that an order depends on.

    `shards` are the numbers of the shards read, ascending, `samples` their sizes: equal, or the first ones larger by 1. With
    an explicit selection of samples there is one "shard" of the selection's size, and window means global.
    """

    content_id: str
    seed: int
    shuffle: Shuffle
    shards: tuple[int, ...]
    samples: tuple[int, ...]
    block_samples: int
    window_blocks: int

    def __post_init__(self) -> None:
        sizes = np.asarray(self.samples)
        if len(sizes) and (sizes[0] - sizes[-1] > 1 or (np.diff(sizes) > 0).any()):
            raise CorruptError(
                f"shards of {sizes.min()} to {sizes.max()} samples: expected equal ones, or the first ones larger by 1"
            )

    @property
    def total(self) -> int:
        """Samples in an epoch."""
        return sum(self.samples)

    def key(self, epoch: int, shard: int, what: int | str) -> int:
        """The key of one permutation."""
        return int(xxhash.xxh3_64_intdigest(f"order/{self.content_id}/{epoch}/{shard}/{what}".encode(), seed=self.seed))

    def substitutes(self, epoch: int, position: int, count: int) -> I64:
        """The positions, int64 (count,), of samples that may take the place of the one at `position`, in this order.

        They lie in the same shard, so a node that holds only its own has them: of sample k of the shard's order these are
        mix(mix(key + k) + i) modulo the shard's samples, i = 0, 1, …, with the key of `what` = ``substitutes``.
        """
        number, place = divmod(position, len(self.shards))
        base = mix64(np.array([(self.key(epoch, self.shards[place], "substitutes") + number) % 2**64], np.uint64))
        drawn = mix64(np.arange(count, dtype=np.uint64) + base) % np.uint64(self.samples[place])
        return drawn.astype(np.int64) * len(self.shards) + place


class EpochOrder:
    """The order of one epoch."""

    def __init__(self, plan: Plan, epoch: int) -> None:
        self._plan, self._epoch = plan, epoch

    def __call__(self, positions: I64) -> tuple[I64, I64]:
        """Where the samples at `positions` lie; positions have to be in range(total).

        Both arrays are int64 of the same shape (n,): the place of the shard among the shards read, and the number of the
        sample in that shard, on disk.
        """
        count = len(self._plan.shards)
        numbers = positions // count
        places = positions - numbers * count
        out = np.empty_like(numbers)
        for place, mine in _groups(places, count):  # a rank of many serves few shards
            order = self._order(self._plan.shards[place], self._plan.samples[place])
            out[mine] = order(numbers[mine])
        return places, out

    def _order(self, shard: int, samples: int) -> Callable[[I64], I64]:
        """The order of one shard: number k in the order -> number on disk.

        Made anew each time, since the tables of ten thousand shards would fill the memory.
        """
        if self._plan.shuffle == "none":
            return lambda numbers: numbers
        if self._plan.shuffle == "global":
            return Permutation(samples, self._plan.key(self._epoch, shard, "samples"))
        return _Window(self._plan, self._epoch, shard, samples)


class _Window:
    """The window shuffle of one shard.

    Slots are the places of the permuted blocks. Only the shard's last block may be short, so where a group of slots begins is
    arithmetic: `_missing` samples less from the slot on that has the short block.
    """

    def __init__(self, plan: Plan, epoch: int, shard: int, samples: int) -> None:
        self._plan, self._epoch, self._number, self._samples = plan, epoch, shard, samples
        self._block = plan.block_samples
        self._group = plan.block_samples * plan.window_blocks
        blocks = -(-samples // self._block)
        self._blocks = Permutation(blocks, plan.key(epoch, shard, "blocks"))
        self._missing = blocks * self._block - samples
        self._short_slot = self._blocks.inverse(blocks - 1)
        self._short_group = self._short_slot // plan.window_blocks

    def __call__(self, numbers: I64) -> I64:
        past_short = numbers >= self._start(self._short_group + 1)
        groups = (numbers + self._missing * past_short) // self._group
        slots, inside = np.empty_like(numbers), np.empty_like(numbers)
        first, last = (int(groups.min()), int(groups.max())) if len(groups) else (0, 0)
        for group, mine in _groups(groups - first, last - first + 1):
            slots[mine], inside[mine] = self._in_group(first + group, numbers[mine])
        return self._blocks(slots) * self._block + inside

    def _in_group(self, group: int, numbers: I64) -> tuple[I64, I64]:
        """The slot and the number inside its block of each of a group's samples."""
        start, stop = self._start(group), self._start(group + 1)
        permutation = Permutation(stop - start, self._plan.key(self._epoch, self._number, group))
        drawn = permutation(numbers - start)
        if group == self._short_group:
            first_slot = group * self._plan.window_blocks
            short_end = (self._short_slot - first_slot + 1) * self._block - self._missing
            drawn += self._missing * (drawn >= short_end)
        slots, inside = np.divmod(drawn, self._block)
        return slots + group * self._plan.window_blocks, inside

    def _start(self, group: int) -> int:
        """The number of a group's first sample."""
        return min(group * self._group - self._missing * (group > self._short_group), self._samples)


def _groups(labels: I64, count: int) -> Iterator[tuple[int, I64]]:
    """Each label of range(count) that occurs, and where: ascending."""
    if len(labels) and count == 1:
        yield 0, np.arange(len(labels))
        return
    # NumPy sorts 16-bit integers by radix, ten times faster than wider ones
    small = labels.astype(np.uint16) if count <= 2**16 else labels
    ordered = np.argsort(small, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=count)).tolist()
    for label, (start, end) in enumerate(pairwise([0, *ends])):
        if end > start:
            yield label, ordered[start:end]
