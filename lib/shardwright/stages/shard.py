"""shard: exactly equal shards from places. A sample's place is the rank of its keyed hash among its split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shardwright.errors import BalanceError
from shardwright.format.manifest import RemainderPolicy


class ShardOptions(BaseModel):
    """How many shards, and how they are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1, le=99_999)
    remainder: RemainderPolicy = "drop"
    """drop the last places (at most count - 1), pad by repeating the first, or spread them (the first shards hold one more)."""
    seed: int = 0
    compress: tuple[str, ...] = ()
    """Fields stored compressed although they could be read by offset."""
    part_bytes: int = Field(default=512 * 2**20, ge=1)
    row_group_bytes: int = Field(default=32 * 2**20, ge=1, le=2**30)
    block_bytes: int = Field(default=2**20, ge=1)
    window_blocks: int = Field(default=16, ge=1)


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
    block_samples: int


@dataclass(frozen=True)
class SplitSize:
    """What a split holds: samples, and their bytes as encoded on disk."""

    samples: int
    bytes: int


def plan_shards(sizes: Mapping[str, SplitSize], options: ShardOptions) -> ShardPlan:
    """Cut every split into `options.count` shards. Raises BalanceError, naming every split that has too few samples."""
    small = {name: size.samples for name, size in sizes.items() if size.samples < options.count}
    if small or not sizes:
        found = ", ".join(f"{name!r} has {samples}" for name, samples in sorted(small.items())) or "there are no samples"
        raise BalanceError(
            f"expected at least {options.count} samples in every split (shard.count), but {found}; "
            "lower shard.count or change split.fractions"
        )
    parts: list[PartPlan] = []
    padded, published, dropped = {}, {}, {}
    for name, size in sorted(sizes.items()):
        rest = size.samples % options.count
        parts += _plan_split(name, size, options)
        padded[name] = options.count - rest if rest and options.remainder == "pad" else 0
        dropped[name] = rest if options.remainder == "drop" else 0
        published[name] = size.samples + padded[name] - dropped[name]
    samples, total = sum(size.samples for size in sizes.values()), sum(size.bytes for size in sizes.values())
    return ShardPlan(
        parts=tuple(parts), published=published, padded=padded, dropped=dropped,
        block_samples=max(1, options.block_bytes * samples // max(total, 1)),
    )  # fmt: skip


def _plan_split(name: str, size: SplitSize, options: ShardOptions) -> list[PartPlan]:
    base, rest = divmod(size.samples, options.count)
    per_shard = max(1, -(-size.bytes // (options.count * options.part_bytes)))
    longer = rest if options.remainder != "drop" else 0  # the first shards hold one sample more
    parts = []
    first = 0
    for shard in range(options.count):
        held = base + (shard < longer)
        pads = (shard - longer,) if options.remainder == "pad" and longer and shard >= longer else ()
        count = min(per_shard, held)
        for part in range(count):
            stop = first + held // count + (part < held % count)
            last = part == count - 1
            parts.append(PartPlan(split=name, shard=shard, part=part, first=first, stop=stop, pads=pads if last else ()))
            first = stop
    return parts


BINS = 2**16
"""Places are found by counting the top 16 bits of H, then by looking at the few bins that hold a boundary."""


def bins_of(place_keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The bin of each place key, uint8 (n, 28): its first 16 bits."""
    return place_keys[:, 0].astype(np.int64) * 256 + place_keys[:, 1]


def boundary_ranks(parts: tuple[PartPlan, ...], split: str) -> list[int]:
    """The places of `split` whose keys must be known: where parts begin, where they end, and the padded ones."""
    own = [part for part in parts if part.split == split]
    return sorted({part.first for part in own} | {part.stop for part in own} | {pad for part in own for pad in part.pads})


def bins_with_ranks(counts: npt.NDArray[np.int64], ranks: list[int]) -> list[int]:
    """The bins that hold `ranks` (a rank past the end has none)."""
    ends = np.cumsum(counts)
    inside = [rank for rank in ranks if rank < ends[-1]]
    return sorted({int(index) for index in np.searchsorted(ends, inside, side="right")})


def keys_at_ranks(counts: npt.NDArray[np.int64], ranks: list[int], candidates: npt.NDArray[np.uint8]) -> dict[int, bytes]:
    """The place key at each rank, from all place keys, uint8 (m, 28), of the bins that `bins_with_ranks` named.

    A rank past the end gets a key that is larger than any (29 bytes of 0xFF).
    """
    ends = np.cumsum(counts)
    ordered = np.sort(as_sortable(candidates))
    bins = np.sort(bins_of(candidates))
    out = {}
    for rank in ranks:
        if rank >= ends[-1]:
            out[rank] = b"\xff" * (candidates.shape[1] + 1)
            continue
        which = int(np.searchsorted(ends, rank, side="right"))
        before = int(ends[which] - counts[which])
        start = int(np.searchsorted(bins, which, side="left"))
        out[rank] = bytes(ordered[start + rank - before].ljust(candidates.shape[1], b"\0"))
    return out


def as_sortable(place_keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.bytes_]:
    """Place keys as fixed-width byte strings, which NumPy compares as `memcmp` does."""
    return np.ascontiguousarray(place_keys).view(f"S{place_keys.shape[1]}").ravel()
