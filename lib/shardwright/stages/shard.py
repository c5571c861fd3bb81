"""shard: exactly equal shards from places: ranks, in the split, of a keyed hash or of the values whose order is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shardwright.errors import BalanceError
from shardwright.format.manifest import Order, RemainderPolicy
from shardwright.hashing.sortable import sortable
from shardwright.schema import Schema, suggest
from shardwright.stages import Rejects, without

ORDER_VALUES = "_order"
"""The values that samples are ordered by, as bytes that sort as they do; of one width."""
_Count = Annotated[int, Field(ge=1, le=99_999)]


class ShardOptions(BaseModel):
    """How many shards, and how they are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: _Count
    per_split: dict[str, _Count] = {}
    """Another number of shards for some splits."""
    remainder: RemainderPolicy = "drop"
    """drop the last places (at most count - 1), pad by repeating the first, spread them (the first shards hold one more), or
    carry the last ones to a later version."""
    order: Order = "shuffled"
    order_by: tuple[str, ...] = Field(default=(), max_length=4)
    """The fields whose order is kept, the first one first."""
    seed: int = 0
    part_bytes: int = Field(default=512 * 2**20, ge=1)
    row_group_bytes: int = Field(default=32 * 2**20, ge=1, le=2**30)
    block_bytes: int = Field(default=2**20, ge=1)
    window_blocks: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _check(self) -> ShardOptions:
        if (self.order == "keep") != bool(self.order_by):
            raise ValueError('order = "keep" and order_by go together: order_by names the fields that give the order')
        if len(set(self.order_by)) != len(self.order_by):
            raise ValueError(f"expected different fields in order_by, found {list(self.order_by)}")
        return self

    def count_of(self, split: str) -> int:
        """The number of shards of a split."""
        return self.per_split.get(split, self.count)


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """One part: the places [first, stop) of its split, then `pads`, the places of samples that are repeated at its end."""

    split: str
    shard: int
    part: int
    first: int
    stop: int
    pads: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """All parts of all splits, by (split, shard, part); and what is left over."""

    parts: tuple[PartPlan, ...]
    published: dict[str, int]
    padded: dict[str, int]
    dropped: dict[str, int]
    carried: dict[str, int]


@dataclass(frozen=True)
class SplitSize:
    """What a split holds: samples, and their bytes as encoded on disk."""

    samples: int
    bytes: int


def plan_shards(sizes: Mapping[str, SplitSize], options: ShardOptions) -> ShardPlan:
    """Cut every split into its shards. Raises BalanceError, naming every split that has too few samples."""
    _check_sizes(sizes, options)
    parts: list[PartPlan] = []
    rests = {name: size.samples % options.count_of(name) for name, size in sorted(sizes.items())}
    padded = {name: options.count_of(name) - rest if rest and options.remainder == "pad" else 0 for name, rest in rests.items()}
    dropped = {name: rest if options.remainder == "drop" else 0 for name, rest in rests.items()}
    carried = {name: rest if options.remainder == "carry" else 0 for name, rest in rests.items()}
    for name in rests:
        parts += _plan_split(name, sizes[name], options)
    return ShardPlan(
        parts=tuple(parts), padded=padded, dropped=dropped, carried=carried,
        published={name: sizes[name].samples + padded[name] - dropped[name] - carried[name] for name in rests},
    )  # fmt: skip


def _check_sizes(sizes: Mapping[str, SplitSize], options: ShardOptions) -> None:
    if not any(size.samples for size in sizes.values()):
        raise BalanceError("expected samples to cut into shards, but there are no samples left")
    unknown = [name for name in options.per_split if name not in sizes]
    if unknown:
        raise BalanceError(f"shard.per_split: no samples in a split {unknown[0]!r}; {suggest(unknown[0], sorted(sizes))}")
    small = {name: size.samples for name, size in sizes.items() if size.samples < options.count_of(name)}
    if small:
        found = ", ".join(f"{name!r} has {samples} for {options.count_of(name)}" for name, samples in sorted(small.items()))
        raise BalanceError(
            f"expected at least as many samples as shards in every split, but {found}; lower shard.count, set "
            "shard.per_split, or choose other splits (split.fractions; --splits of a reshard)"
        )


def _plan_split(name: str, size: SplitSize, options: ShardOptions) -> list[PartPlan]:
    shards = options.count_of(name)
    base, rest = divmod(size.samples, shards)
    per_shard = max(1, -(-size.bytes // (shards * options.part_bytes)))
    longer = rest if options.remainder in ("pad", "spread") else 0  # the first shards hold one sample more
    parts = []
    first = 0
    for shard in range(shards):
        held = base + (shard < longer)
        pads = (shard - longer,) if options.remainder == "pad" and longer and shard >= longer else ()
        count = min(per_shard, held)
        for part in range(count):
            stop = first + held // count + (part < held % count)
            last = part == count - 1
            parts.append(PartPlan(split=name, shard=shard, part=part, first=first, stop=stop, pads=pads if last else ()))
            first = stop
    return parts


def boundary_ranks(parts: tuple[PartPlan, ...], split: str) -> list[int]:
    """The places of `split` whose keys must be known: where parts begin, where they end, and the padded ones."""
    own = [part for part in parts if part.split == split]
    return sorted({part.first for part in own} | {part.stop for part in own} | {pad for part in own for pad in part.pads})


class OrderBy:
    """Adds `_order`, the values that places follow; samples without one there are rejected."""

    name = "shard"

    def __init__(self, schema: Schema, fields: tuple[str, ...]) -> None:
        self._fields = tuple(schema[name] for name in fields)  # raises SchemaError with the nearest name

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The batch with `_order`."""
        found: dict[int, tuple[str, str]] = {}
        columns = []
        for field in self._fields:
            values, bad = sortable(field, batch[field.name])
            columns.append(values)
            for row, reason in bad.items():
                found.setdefault(row, (field.name, reason))
        order = np.hstack(columns)
        column = pa.Array.from_buffers(pa.binary(order.shape[1]), len(order), [None, pa.py_buffer(order)])
        return without(batch.append_column(ORDER_VALUES, column), found)
