"""Which row groups a reader takes, and in which order: pure functions of the dataset's row groups, the shard and the seed.

`shard_policy="row_groups"` is Petastorm's own way (source: petastorm 0.13.1, ``reader.py`` and ``workers_pool/ventilator.py``,
measured): row group i belongs to shard i mod n, so shards are as uneven as row groups are; the order is that of NumPy's
`default_rng(seed)`, drawn once and kept for all epochs, and drawn anew by `reset`.

`shard_policy="samples"` gives every shard the same number of rows: all row groups in an order drawn for each epoch from
(seed, epoch) form one sequence of rows, of which shard k takes the k-th n-th part. At most n - 1 rows at its end are left out
in an epoch, others in each.
"""

from __future__ import annotations

import random  # noqa: TID251 - the order that Petastorm defines
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
ShardPolicy = Literal["row_groups", "samples"]


class Item(NamedTuple):
    """What is loaded at once: a row group, or a slice of it."""

    piece: int
    """Its number in the store."""
    part: int = 0
    parts: int = 1
    """Where it is read in several parts (`shuffle_row_drop_partitions`), which one this is."""
    start: int = 0
    stop: int | None = None
    """Of the rows that would be handed out, those of this shard (`shard_policy="samples"`)."""


@dataclass(frozen=True, kw_only=True)
class RowGroupOrder:
    """Petastorm's order."""

    pieces: tuple[int, ...]
    """The row groups of this shard."""
    parts: int
    shuffle: bool
    seed: int

    def epoch(self, resets: int, epoch: int) -> list[Item]:  # noqa: ARG002 - it is the same in every epoch
        """The items of an epoch, of the pass that follows so many calls of `reset`."""
        items = [Item(piece, part, self.parts) for piece in self.pieces for part in range(self.parts)]
        if self.shuffle:
            generator = np.random.default_rng(self.seed)
            for _ in range(resets + 1):
                items = [items[place] for place in generator.permutation(len(items))]
        return items


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """Shards of one size."""

    pieces: tuple[int, ...]
    """All row groups."""
    rows: tuple[int, ...]
    """How many rows of each are handed out."""
    shard: int
    shards: int
    shuffle: bool
    seed: int

    @property
    def samples(self) -> int:
        """Rows of a shard in an epoch."""
        return sum(self.rows) // self.shards

    def epoch(self, resets: int, epoch: int) -> list[Item]:
        """The items of an epoch, of the pass that follows so many calls of `reset`."""
        places: Sequence[int] = range(len(self.pieces))
        if self.shuffle:
            places = np.random.default_rng([self.seed, resets, epoch]).permutation(len(self.pieces)).tolist()
        return list(self._cut(places))

    def _cut(self, places: Sequence[int]) -> Iterator[Item]:
        begin, end, at = self.shard * self.samples, (self.shard + 1) * self.samples, 0
        for place in places:
            start, stop = max(begin - at, 0), min(end - at, self.rows[place])
            if start < stop:
                yield Item(self.pieces[place], start=start, stop=stop)
            at += self.rows[place]


Order = RowGroupOrder | SampleOrder


def of_shard(pieces: Sequence[int], shard: int, shards: int, seed: int | None) -> tuple[int, ...]:
    """The row groups of a shard, as Petastorm picks them: with a seed in an order of its own, which shuffling starts from."""
    mixed = list(pieces)
    if seed is not None:
        random.Random(seed).shuffle(mixed)  # noqa: S311
    return tuple(piece for piece in mixed if piece % shards == shard)


RowOrderKind = Literal["rows", "batches", "keyed"]


class RowOrder:
    """The order of the rows within row groups (`shuffle_rows`).

    With a seed as a reader with one worker of Petastorm's draws it: "rows" by pandas' `sample(random_state=seed)`, which is one
    order for all row groups of a length, in every epoch; "batches" by one generator for all epochs, row group by row group.
    "keyed", for what Petastorm leaves to chance, draws from (seed, resets, epoch, row group).
    """

    def __init__(self, seed: int, kind: RowOrderKind, generator: int | None) -> None:
        self._seed, self._kind = seed, kind
        self._generator = np.random.default_rng(seed)
        if generator is not None:
            state: Any = self._generator.bit_generator.state
            state["state"]["state"], rest = generator >> 33, generator & (2**33 - 1)
            state["has_uint32"], state["uinteger"] = rest >> 32, rest & (2**32 - 1)
            self._generator.bit_generator.state = state

    @property
    def generator(self) -> int | None:
        """The generator's state, where it is one for all row groups."""
        if self._kind != "batches":
            return None
        state: Any = self._generator.bit_generator.state
        return int(state["state"]["state"]) << 33 | int(state["has_uint32"]) << 32 | int(state["uinteger"])

    def draw(self, rows: int, resets: int, epoch: int, piece: int) -> I64:
        """The places of a row group's rows, in the order that they are handed out; to be called in the order of items."""
        if self._kind == "batches":
            return self._generator.permutation(rows)
        if self._kind == "rows":
            return np.random.RandomState(self._seed % 2**32).permutation(rows).astype(np.int64)
        return np.random.default_rng([self._seed, resets, epoch, piece]).permutation(rows)


def rows_of_part(rows: int, item: Item, beyond: int = 0) -> slice:
    """The rows of one part of a row group, and `beyond` more rows, which belong to the next part, for windows."""
    parts = min(rows, item.parts)
    if item.part >= parts:
        return slice(0, 0)
    place = np.floor(np.arange(rows) / (rows / parts))
    start, stop = (int(np.searchsorted(place, item.part + more)) for more in (0, 1))
    return slice(start, min(stop + beyond, rows))
