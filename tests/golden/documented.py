"""The documented formulas once more, in plain Python on big integers, without a line of the library."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import xxhash

MASK = 2**64 - 1
GOLDEN_RATIO = 0x9E3779B97F4A7C15
_NUMBERS = {
    "bool": ("|b1", "?"), "int8": ("|i1", "b"), "uint8": ("|u1", "B"), "int16": ("<i2", "h"), "uint16": ("<u2", "H"),
    "int32": ("<i4", "i"), "uint32": ("<u4", "I"), "int64": ("<i8", "q"), "uint64": ("<u8", "Q"), "float16": ("<f2", "e"),
    "float32": ("<f4", "f"), "float64": ("<f8", "d"), "timestamp": ("<M8[us]", "q"),
}  # fmt: skip


def canonical_bytes(dtype: str, shape: Sequence[int] | None, value: Any) -> bytes:
    """hashing/sample_key.py: null flag, dtype tag, shape, length, value.

    `value` is a number (microseconds for a timestamp), a str, bytes, a flat list of an array's elements, or None. `shape` None
    is that of a ragged list: its own length.
    """
    if value is None:
        return b"\0"
    if dtype in ("string", "bytes", "path"):
        tag, data = {"string": "str"}.get(dtype, dtype), value if isinstance(value, bytes) else value.encode()
    else:
        tag, letter = _NUMBERS[dtype]
        numbers = value if isinstance(value, list) else [value]
        data = struct.pack(f"<{len(numbers)}{letter}", *numbers)
    dims = [len(value)] if shape is None else shape
    head = b"\1" + bytes([len(tag)]) + tag.encode() + bytes([len(dims)])
    return head + b"".join(struct.pack("<Q", size) for size in dims) + struct.pack("<Q", len(data)) + data


def sample_key(*fields: bytes) -> bytes:
    return xxhash.xxh3_128_digest(b"".join(fields))


def mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def keyed_hash(seed: int, purpose: str, key: bytes, occurrence: int = 0) -> int:
    """hashing/keyed.py: H(seed, purpose, key, occurrence)."""
    low, high = struct.unpack("<QQ", key)
    base = xxhash.xxh3_64_intdigest(purpose.encode(), seed=seed)
    return mix((mix((mix(base ^ low) + high) & MASK) + occurrence * GOLDEN_RATIO) & MASK)


def place_key(seed: int, key: bytes, occurrence: int = 0) -> bytes:
    return keyed_hash(seed, "place", key, occurrence).to_bytes(8, "big") + key + occurrence.to_bytes(4, "big")


def split_of(fractions: dict[str, float], seed: int, key: bytes) -> str:
    """The first split whose cumulated share of the range of H lies above it."""
    hashed = keyed_hash(seed, "split", key)
    for name, threshold in zip(fractions, [*thresholds(fractions), 2**64], strict=True):
        if hashed < threshold:
            return name
    raise AssertionError("2**64 is above every hash")


def thresholds(fractions: dict[str, float]) -> list[int]:
    shares = [Fraction(str(share)) for share in fractions.values()]
    return [int(sum(shares[: count + 1], Fraction(0)) / sum(shares) * 2**64) for count in range(len(shares) - 1)]


def permutation(n: int, key: int) -> list[int]:
    """hashing/permutation.py: six Feistel rounds over a rectangle that just covers n, with cycle walking."""
    a = next(a for a in range(1, n + 2) if a * a >= n)
    b = max(1, -(-n // a))
    keys = [mix((mix(number * GOLDEN_RATIO & MASK ^ key) + n) & MASK) for number in range(1, 7)]

    def encipher(value: int) -> int:
        high, low = divmod(value, b)
        for number, round_key in enumerate(keys):
            if number % 2 == 0:
                high = (high + ((mix(low ^ round_key) >> 32) * a >> 32)) % a
            else:
                low = (low + ((mix(high ^ round_key) >> 32) * b >> 32)) % b
        return high * b + low

    out = []
    for position in range(n):
        value = encipher(position)
        while value >= n:
            value = encipher(value)
        out.append(value)
    return out


def shard_order(samples: int, shuffle: str, prefix: str, seed: int, block_samples: int, window_blocks: int) -> list[int]:
    """order/epoch.py: number on disk of each sample of a shard, in order; `prefix` is order/{content_id}/{epoch}/{shard}."""

    def permuted(values: list[int], what: str | int) -> list[int]:
        key = xxhash.xxh3_64_intdigest(f"{prefix}/{what}".encode(), seed=seed)
        return [values[index] for index in permutation(len(values), key)]

    numbers = list(range(samples))
    if shuffle == "none":
        return numbers
    if shuffle == "global":
        return permuted(numbers, "samples")
    blocks = permuted(list(range(-(-samples // block_samples))), "blocks")
    out = []
    for group, start in enumerate(range(0, len(blocks), window_blocks)):
        drawn = blocks[start : start + window_blocks]
        out += permuted([n for block in drawn for n in numbers[block * block_samples : (block + 1) * block_samples]], group)
    return out


def epoch_order(
    content_id: str, seed: int, epoch: int, shuffle: str, sizes: Sequence[int], block_samples: int, window_blocks: int
) -> Iterator[tuple[int, int]]:
    """(shard, number on disk) at each position of an epoch."""
    orders = [
        shard_order(size, shuffle, f"order/{content_id}/{epoch}/{shard}", seed, block_samples, window_blocks)
        for shard, size in enumerate(sizes)
    ]
    for position in range(sum(sizes)):
        shard = position % len(sizes)
        yield shard, orders[shard][position // len(sizes)]
