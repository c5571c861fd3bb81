"""The keyed hash H(seed, purpose, key, occurrence): a 64-bit mix, vectorised, the same on every machine.

Definition, all on unsigned 64-bit integers with wrap-around::

    mix(x)  = the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014):
              x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31
    base    = XXH3-64(purpose as UTF-8, seed)
    H       = mix(mix(mix(base ^ key[0:8]) + key[8:16]) + occurrence * 0x9E3779B97F4A7C15)

where key[a:b] are bytes of the 128-bit sample key, read as a little-endian integer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xxhash

U64 = npt.NDArray[np.uint64]

_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(values: U64) -> U64:
    """SplitMix64's finaliser: a bijection of the 64-bit integers. Returns a new array."""
    x = values ^ (values >> np.uint64(30))
    x *= _M1
    x ^= x >> np.uint64(27)
    x *= _M2
    x ^= x >> np.uint64(31)
    return x


def keyed_hash(seed: int, purpose: str, keys: npt.NDArray[np.uint8], occurrence: npt.NDArray[np.uint32] | None = None) -> U64:
    """H of `keys`, uint8 of shape (n, 16), as uint64 of shape (n,); `occurrence` is 0 where not given."""
    base = np.uint64(xxhash.xxh3_64_intdigest(purpose.encode(), seed=seed))
    words = np.ascontiguousarray(keys).view("<u8").astype(np.uint64, copy=False)
    hashed = mix64(mix64(words[:, 0] ^ base) + words[:, 1])
    if occurrence is not None:
        hashed += occurrence.astype(np.uint64) * _GOLDEN
    return mix64(hashed)
