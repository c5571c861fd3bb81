"""Reading ahead on remote storage: the order of an epoch is known, so the bytes of later batches are on their way early."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from shardwright.errors import ConfigError, ShardwrightError
from shardwright.order import Plan, World
from shardwright.reader.catalog import Catalog
from shardwright.storage.readahead import HeldRanges, Spans

I64 = npt.NDArray[np.int64]
T = TypeVar("T")
_ROUND_BYTES = 64 * 2**20
"""Batches with so many new bytes are asked for together: near ones become one request."""
_ROUND_BATCHES = 64
_PAGE_BYTES = 2**16
_LEAST_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Units:
    """What is fetched for the sake of one value: the block that it lies in, or the value alone."""

    block_samples: int = 1
    """1: values by themselves."""
    shard_first: I64
    shard_samples: I64
    page_bytes: int = _PAGE_BYTES
    """Of very small values, so many bytes."""

    def of(self, indexes: I64) -> tuple[I64, I64]:
        """First and past-the-end sample of the unit of each sample."""
        if self.block_samples == 1:
            return indexes, indexes + 1
        shard = np.searchsorted(self.shard_first, indexes, side="right") - 1
        begin = self.shard_first[shard]
        first = begin + (indexes - begin) // self.block_samples * self.block_samples
        return first, np.minimum(first + self.block_samples, begin + self.shard_samples[shard])


VALUES = Units(shard_first=np.zeros(1, np.int64), shard_samples=np.zeros(1, np.int64), page_bytes=0)
"""Values by themselves, whatever their size: for a few samples that nobody goes on from."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a loader's memory limit is spent on."""

    held: int
    """Bytes of ranges on their way, needed soon, or kept."""
    cache: int
    """Bytes of decompressed row groups, footers and side files."""
    units: Units


def stored_bytes(catalog: Catalog, names: Sequence[str]) -> float:
    """Bytes on disk of a sample's values in the columns `names`, compressed ones left out; no less than the mean."""
    strides = {name: extents.stride for name, extents in catalog.extents.items()}
    read = sum(strides.get(name, 0) for name in names)
    if all(strides.get(name) != 0 for name in names):
        return read
    return sum(catalog.parts.bytes) / max(catalog.samples, 1) - (sum(strides.values()) - read)


def made_ahead(limit: int) -> int:
    """Bytes of batches that are made and wait for the trainer, of `limit` in all."""
    return limit // 8


def taken_at_once(limit: int) -> int:
    """Bytes of small local values that are taken for many batches at a time, of `limit` in all."""
    return limit // 16


def share_memory(
    limit: int, catalog: Catalog, plan: Plan, world: World, *, batch_size: int, sample_bytes: float, gap: int, whole: bool
) -> Memory:
    """How `limit` bytes are spent on reading samples of `sample_bytes` on disk, compressed columns left out.

    `whole`: the samples read are no selection.

    Blocks are fetched whole where two windows of them fit, and a rank takes enough of a block that what lies between its
    samples costs less than requests for them (`gap` bytes). Raises ConfigError for a limit that holds no two batches.
    """
    smallest = max(_LEAST_BYTES, 4 * math.ceil(batch_size * sample_bytes))
    if limit < smallest:
        problem = (
            f"memory_limit_bytes: expected at least {smallest} for batches of {batch_size} samples of {sample_bytes:.0f} bytes "
            f"(two batches, and as much again for what is kept), found {limit}"
        )
        raise ConfigError([problem])
    held = limit - limit // 4 - made_ahead(limit)
    turns = math.gcd(world.size, len(plan.shards))
    shards = len(plan.shards) // turns  # this rank serves so many, and every (size / turns)-th sample of each
    window = plan.block_samples * (plan.window_blocks if plan.shuffle == "window" else 1) * sample_bytes * shards
    near = (world.size / turns - 1) * sample_bytes <= gap
    blocks = whole and plan.shuffle != "global" and near and 2 * window <= held // 2
    units = Units(
        block_samples=plan.block_samples if blocks else 1,
        shard_first=catalog.shard_first,
        shard_samples=np.asarray(catalog.shard_samples, np.int64),
        page_bytes=min(_PAGE_BYTES, held // (16 * batch_size)),
    )
    return Memory(held=held, cache=limit // 4, units=units)


def read_ahead(batches: Iterator[T], needs: Callable[[T], Spans], held: HeldRanges) -> Iterator[T]:
    """`batches` in order, each given out after the bytes of later ones were asked for, as far as `held` has room.

    Nothing here waits for bytes: who uses them does.
    """
    asked: deque[T] = deque()
    given, rounds = 0, _rounds(batches, needs, held)
    following = None
    while True:
        held.advance(given)
        # one round at a step, so that the first batch does not wait until all the room is planned
        if following is None and len(asked) < _ROUND_BATCHES:
            following = next(rounds, None)
        if following is not None and (not asked or held.fits(held.missing(following[1]).bytes)):
            members, spans, numbers = following
            held.ask(spans, given + len(asked) + numbers)
            asked.extend(members)
            following = None
        if not asked:
            return
        yield asked.popleft()
        given += 1


def _rounds(batches: Iterator[T], needs: Callable[[T], Spans], held: HeldRanges) -> Iterator[tuple[list[T], Spans, I64]]:
    """Batches that are asked for together, what they need, and for each of these spans the number of the batch among them."""
    most = min(_ROUND_BYTES, held.limit // 8)
    members: list[T] = []
    spans: list[Spans] = []
    new = 0
    for batch in batches:
        try:
            wanted = needs(batch)
        except (ShardwrightError, OSError):  # raised again when it is this batch's turn
            wanted = Spans.join([])
        nbytes = held.missing(wanted).bytes
        if members and (new + nbytes > most or len(members) == _ROUND_BATCHES):
            yield members, Spans.join(spans), _numbers(spans)
            members, spans, new = [], [], 0
        members.append(batch)
        spans.append(wanted)
        new += nbytes
    if members:
        yield members, Spans.join(spans), _numbers(spans)


def _numbers(spans: list[Spans]) -> I64:
    return np.repeat(np.arange(len(spans)), [len(span.files) for span in spans])
