"""A keyed permutation of range(n) that can be asked for any element in constant time.

A Feistel network over a rectangle a x b that just covers n (a = ceil(sqrt(n)), b = ceil(n / a)), with cycle walking for the
few values past n; the construction is the generalised-Feistel cipher of Black and Rogaway, "Ciphers with arbitrary finite
domains" (CT-RSA 2002). The round function is SplitMix64's finaliser, so this is statistical, not cryptographic.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shardwright.hashing.keyed import mix64

_ROUNDS = 6
_COUNTERS = np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


class Permutation:
    """The permutation of range(`n`) that belongs to the 64-bit `key`.

    Each half of the network has about sqrt(n) values, so every round is a table: making them costs O(sqrt(n)), and an element
    a third of what the round functions cost.
    """

    def __init__(self, n: int, key: int) -> None:
        self.n = n
        self._a = max(1, math.isqrt(max(n - 1, 0)) + 1)
        self._b = max(1, -(-n // self._a))
        round_keys = mix64(mix64(_COUNTERS ^ np.uint64(key & (2**64 - 1))) + np.uint64(n))
        halves = mix64(np.arange(self._a, dtype=np.uint64) ^ round_keys[:, None])  # a >= b
        halves[0::2] = _scale(halves[0::2], np.uint64(self._a))
        halves[1::2] = _scale(halves[1::2], np.uint64(self._b))
        self._rounds = halves

    def __call__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The elements at `positions`, int64, each in range(n); the same shape."""
        out = self._encipher(np.asarray(positions, np.int64).ravel())
        outside = np.flatnonzero(out >= self.n)
        while len(outside):  # at most a - 1 of the a * b values lie outside: rarely more than one turn
            walked = self._encipher(out[outside])
            out[outside] = walked
            outside = outside[walked >= self.n]
        return out.reshape(np.shape(positions))

    def inverse(self, element: int) -> int:
        """The position that holds `element`."""
        value = self._decipher(element)
        while value >= self.n:
            value = self._decipher(value)
        return value

    def _encipher(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        high = values // self._b
        low = values - high * self._b
        sides = ((low, high.view(np.uint64), np.uint64(self._a)), (high, low.view(np.uint64), np.uint64(self._b)))
        for number, table in enumerate(self._rounds):
            other, side, size = sides[number % 2]
            side += table[other]
            np.minimum(side, side - size, out=side)  # modulo size: the difference wraps around where side was smaller
        high *= self._b
        high += low
        return high

    def _decipher(self, value: int) -> int:
        high, low = divmod(value, self._b)
        for number in reversed(range(_ROUNDS)):
            if number % 2 == 0:
                high = (high - int(self._rounds[number, low])) % self._a
            else:
                low = (low - int(self._rounds[number, high])) % self._b
        return high * self._b + low


def permuted(
    n: int | npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """``Permutation(n[i], keys[i])(positions[i])`` for each i: one element of each of many permutations, without tables.

    `keys` and `positions` have shape (m,), `n` too, or it is one number; every n is below 2^52. About ten times the cost of an
    element of one `Permutation`, and nothing to set up.
    """
    sizes = np.broadcast_to(np.asarray(n, np.int64), positions.shape)
    a = np.sqrt(np.maximum(sizes - 1, 0).astype(np.float64)).astype(np.int64) + 1  # float64 has the exact floor below 2^52
    b = -(-sizes // a)
    round_keys = [mix64(mix64(keys ^ counter) + sizes.astype(np.uint64)) for counter in _COUNTERS]
    out = _one_each(positions, a, b, round_keys)
    outside = np.flatnonzero(out >= sizes)
    while len(outside):
        walked = _one_each(out[outside], a[outside], b[outside], [key[outside] for key in round_keys])
        out[outside] = walked
        outside = outside[walked >= sizes[outside]]
    return out


def _one_each(
    values: npt.NDArray[np.int64], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], round_keys: list[npt.NDArray[np.uint64]]
) -> npt.NDArray[np.int64]:
    """Each value enciphered in a network of its own."""
    high, low = np.divmod(values, b)
    sides = ((low, high.view(np.uint64), a.astype(np.uint64)), (high, low.view(np.uint64), b.astype(np.uint64)))
    for number, key in enumerate(round_keys):
        other, side, size = sides[number % 2]
        side += _scale(mix64(other.view(np.uint64) ^ key), size)
        np.minimum(side, side - size, out=side)
    return high * b + low


def _scale(hashed: npt.NDArray[np.uint64], size: np.uint64 | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The upper 32 bits of each hash, scaled into range(size): a product and a shift where `%` would divide."""
    hashed >>= np.uint64(32)
    hashed *= size
    hashed >>= np.uint64(32)
    return hashed
