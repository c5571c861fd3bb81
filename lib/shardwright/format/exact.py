"""Exact, mergeable sums of one channel's elements, and the mean and deviation rounded once from them.

An accumulator takes a channel's elements in stretches of any size and any order and holds whole numbers
only, so that what it ends with does not depend on how the data was cut, batched or merged. Each kind of element
has its own way to get there at NumPy's speed:

* up to 16 bits: the exact histogram says everything (`Narrow`);
* integers of 32 and 64 bits: products of 32-bit halves, summed in uint64 (`Wide`);
* floats: mantissas summed per exponent in limbs (`Floats`). Every finite float is a whole multiple of the smallest
  subnormal 2**-power, so its sums are Python integers over that fixed power of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

SMALL_BYTES = 32 * 1024
"""Below this a call of Arrow's kernel (some 40 us) costs more than NumPy's slower loop."""

# Accumulators of floats count by the top 14 bits of the IEEE 754 pattern: sign, exponent, and the mantissa's first bits
# (5 for float32, 2 for float64). 16,384 counters of 8 bytes stay in the second-level cache.
_KEY_BITS = 14
_KEYS = 1 << _KEY_BITS
_SIGN_KEY = _KEYS >> 1
_LOG_BINS = 4 * 254


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact sums over the finite elements x: sum(x) = total / 2**power, sum(x*x) = squares / 4**power.

    `bins` are the nonempty histogram bins in ascending order, `counts` their elements.
    """

    finite: int
    non_finite: int
    total: int
    squares: int
    power: int
    low: int | float | None
    high: int | float | None
    bins: list[int | float]
    counts: list[int]

    def mean(self) -> float | None:
        """The mean, correctly rounded: Python's division of integers is. None without finite elements."""
        if not self.finite:
            return None
        return self.total / (self.finite << self.power) + 0.0  # + 0.0: a tiny negative mean may round to -0.0

    def std(self) -> float | None:
        """The population standard deviation, correctly rounded once. None without finite elements.

        With n elements, var = (n * squares - total**2) / (n * 2**power)**2.
        """
        if not self.finite:
            return None
        return sqrt_ratio(self.finite * self.squares - self.total**2, (self.finite << self.power) ** 2)


def sqrt_ratio(numerator: int, denominator: int) -> float:
    """The float nearest to sqrt(numerator / denominator), ties to even; numerator >= 0, denominator > 0.

    The integer root keeps at least 64 bits, and its last bit is set whenever anything was cut off (round to odd), so
    that the one rounding to 53 bits or fewer goes the way the exact root would: S. Boldo and G. Melquiond, "When double
    rounding is odd", 2005; CPython's `statistics` does the same.
    """
    if not numerator:
        return 0.0
    shift = (denominator.bit_length() - numerator.bit_length() + 131) // 2
    if shift >= 0:
        scaled, rest = divmod(numerator << 2 * shift, denominator)
    else:
        scaled, rest = divmod(numerator, denominator << -2 * shift)
    root = math.isqrt(scaled)
    root |= int(rest != 0 or root * root != scaled)
    return root / (1 << shift) if shift >= 0 else float(root << -shift)


def count_bytes(values: npt.NDArray[np.uint8]) -> Counts:
    """How often each of the 256 values occurs in a contiguous array of shape (n,): int64 of shape (256,).

    Arrow's `mode` counts bytes in place, where `numpy.bincount` widens each to 8 bytes first: 1.3 against
    0.55 GB/s. Equal neighbours slow it to 0.55 (each increment waits for the one before), so where an array
    begins with many zeros (drawings, masks), its words of zeros are left out.
    """
    if values.size < SMALL_BYTES:
        return np.bincount(values, minlength=256).astype(np.int64, copy=False)
    counts = np.zeros(256, np.int64)
    words = values[: values.size // 8 * 8].view(np.uint64)
    if np.count_nonzero(words[:2048]) < 1536:
        kept = words[words != 0].view(np.uint8)
        tail = values[words.nbytes :]
        counts += np.bincount(tail, minlength=256)
        counts[0] += words.nbytes - kept.size
        values = kept
    found = pc.mode(pa.array(values), n=256)
    counts[found.field(0).to_numpy()] += found.field(1).to_numpy()
    return counts


class Narrow:
    """Bools and integers of 8 and 16 bits: an exact histogram."""

    CHUNK: ClassVar[int] = 1 << 20

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._bits = 8 * dtype.itemsize
        self._signed = dtype.kind == "i"
        # Indexed by the bit pattern read as unsigned; a signed type's negative values stand in the upper half.
        self._counts = np.zeros(1 << self._bits, np.int64)

    def add(self, values: Array) -> None:
        """Take elements of shape (n,)."""
        if self._bits == 8:
            self._counts += count_bytes(np.ascontiguousarray(values).view(np.uint8))
        else:
            self._counts += np.bincount(values.view(np.uint16), minlength=len(self._counts))

    def merge(self, other: Self) -> None:
        """Add the other histogram."""
        self._counts += other._counts

    def to_json(self) -> dict[str, Any]:
        """``bins`` and ``counts`` of the values that occur."""
        bins, counts = self._occurring()
        return {"bins": bins, "counts": counts}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `to_json`."""
        self._counts[np.array(state["bins"], np.int64)] = state["counts"]

    def moments(self) -> Moments:
        """Everything, from the histogram."""
        bins, counts = self._occurring()
        total = sum(value * count for value, count in zip(bins, counts, strict=True))
        squares = sum(value * value * count for value, count in zip(bins, counts, strict=True))
        low, high = (bins[0], bins[-1]) if bins else (None, None)
        return Moments(sum(counts), 0, total, squares, 0, low, high, [*bins], counts)

    def _occurring(self) -> tuple[list[int], list[int]]:
        half = len(self._counts) // 2 if self._signed else 0
        counts = np.roll(self._counts, half)
        found = np.flatnonzero(counts)
        return (found - half).tolist(), counts[found].tolist()


class _Sums:
    """What `Wide` and `Floats` share: Python integers for the sums, and a log-bin histogram."""

    def __init__(self) -> None:
        self._finite = 0
        self._non_finite = 0
        self._total = 0
        self._squares = 0
        self._low: int | float | None = None
        self._high: int | float | None = None
        self._log = np.zeros(2 * _LOG_BINS + 1, np.int64)

    def _settle(self) -> None:
        """Bring what is still pending into the sums."""

    def _extend(self, low: int | float | None, high: int | float | None) -> None:
        self._low = low if self._low is None else self._low if low is None else min(self._low, low)
        self._high = high if self._high is None else self._high if high is None else max(self._high, high)

    def _add_bins(self, index: npt.NDArray[np.intp], counts: Counts) -> None:
        keys = np.flatnonzero(counts)
        np.add.at(self._log, index[keys], counts[keys])

    def merge(self, other: Self) -> None:
        """Add the other sums."""
        self._settle()
        other._settle()
        self._finite += other._finite
        self._non_finite += other._non_finite
        self._total += other._total
        self._squares += other._squares
        self._extend(other._low, other._high)
        self._log += other._log

    def to_json(self) -> dict[str, Any]:
        """Sums as hexadecimal strings (they outgrow what JSON readers take as a number), bins that occur."""
        self._settle()
        found = np.flatnonzero(self._log)
        return {
            "finite": self._finite,
            "non_finite": self._non_finite,
            "total": hex(self._total),
            "squares": hex(self._squares),
            "min": self._low,
            "max": self._high,
            "bins": (found - _LOG_BINS).tolist(),
            "counts": self._log[found].tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `to_json`."""
        self._finite = state["finite"]
        self._non_finite = state["non_finite"]
        self._total = int(state["total"], 16)
        self._squares = int(state["squares"], 16)
        self._low, self._high = state["min"], state["max"]
        self._log[np.array(state["bins"], np.int64) + _LOG_BINS] = state["counts"]

    def _moments(self, power: int) -> Moments:
        self._settle()
        found = np.flatnonzero(self._log)
        edges = [log_edge(code) for code in (found - _LOG_BINS).tolist()]
        return Moments(
            self._finite, self._non_finite, self._total, self._squares, power,
            self._low, self._high, [*edges], self._log[found].tolist(),
        )  # fmt: skip


def log_edge(code: int) -> float:
    """The bound nearest to zero of log bin `code`, from -1016 to 1016.

    Bin 0 holds |x| < 2**-126. Bin 1 + 4 * (e + 126) + m holds 2**e * (1 + m / 4) <= x < 2**e * (1 + (m + 1) / 4), for
    e from -126 to 127 and m from 0 to 3; the last one all that is greater, too. Negative bins mirror them.
    """
    if not code:
        return 0.0
    exponent, quarter = divmod(abs(code) - 1, 4)
    return math.copysign(math.ldexp(4 + quarter, exponent - 128), code)


def _log_index(layout: np.dtype[Any]) -> npt.NDArray[np.intp]:
    """For every key of a float layout the index of its log bin: intp of shape (16384,)."""
    keys = np.arange(_KEYS)
    mantissa_bits = 5 if layout == np.float32 else 2
    magnitude = keys & (_SIGN_KEY - 1)
    exponent = (magnitude >> mantissa_bits) - (0 if layout == np.float32 else 1023 - 127)
    quarter = (magnitude >> (mantissa_bits - 2)) & 3
    code = np.clip(1 + 4 * (exponent - 1) + quarter, 0, _LOG_BINS)
    return np.where(keys & _SIGN_KEY, -code, code) + _LOG_BINS


_LOG_INDEX_32 = _log_index(np.dtype(np.float32))
_LOG_INDEX_64 = _log_index(np.dtype(np.float64))


class Wide(_Sums):
    """Integers of 32 and 64 bits: sums over x - min, which is unsigned, in 32-bit halves."""

    CHUNK: ClassVar[int] = 1 << 15

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__()
        self._bits = 8 * dtype.itemsize
        self._offset = int(np.iinfo(dtype).min)

    def add(self, values: Array) -> None:
        """Take elements of shape (n,)."""
        if not values.size:
            return
        count, offset = len(values), self._offset
        low, high = int(values.min()), int(values.max())
        self._extend(low, high)
        # Conversion to uint64 and the subtraction both wrap modulo 2**64, which is what makes x - min exact.
        shifted = values.astype(np.uint64) - np.uint64(offset % 2**64)
        total, squares = _sum_unsigned(shifted, self._bits)
        self._finite += count
        self._total += total + count * offset
        self._squares += squares + 2 * offset * total + count * offset**2
        keys = _integer_keys(values, low, high).view(np.intp)
        self._add_bins(_LOG_INDEX_64, np.bincount(keys, minlength=_KEYS))

    def moments(self) -> Moments:
        """The sums over 2**0."""
        return self._moments(0)


def _sum_unsigned(values: npt.NDArray[np.uint64], bits: int) -> tuple[int, int]:
    """sum(x) and sum(x * x). Halves and halves of their products are below 2**32, so 2**32 of them fit in uint64."""
    low = values & np.uint64(0xFFFFFFFF)
    total, squares = int(low.sum()), _sum_split(low * low)
    if bits == 64:
        high = values >> np.uint64(32)
        total += int(high.sum()) << 32
        squares += (_sum_split(high * low) << 33) + (_sum_split(high * high) << 64)
    return total, squares


def _sum_split(products: npt.NDArray[np.uint64]) -> int:
    return int((products & np.uint64(0xFFFFFFFF)).sum()) + (int((products >> np.uint64(32)).sum()) << 32)


def _integer_keys(values: Array, low: int, high: int) -> npt.NDArray[np.uint64]:
    """The float64 keys of integers from `low` to `high`."""
    if low < -(2**53) or high > 2**53:
        # Such integers lose their last bits first: rounded up by the conversion, one could reach the next bin.
        large = (values < -(2**53)) | (values > 2**53)
        values = np.where(large, values - np.fmod(values, values.dtype.type(2048)), values)
    return values.astype(np.float64).view(np.uint64) >> np.uint64(64 - _KEY_BITS)


class Floats(_Sums):
    """float16 (as float32), float32 and float64: the mantissas' low bits in limbs of at most 18 bits, summed per key.

    The key holds sign, exponent and the first mantissa bits, so m = T + l with T the same for all elements of a key:
    sum(m) = n T + sum(l) and sum(m * m) = n T**2 + 2 T sum(l) + sum(l * l). float32 leaves 18 bits for l; float64
    leaves 50, cut into limbs a, b, c of 16, 17 and 17. `numpy.bincount` sums in float64. The largest weight is below
    2**36 (l * l; 2 a c + b * b), so a stretch of 2**16 elements stays below 2**52 < 2**53: every partial sum is exact.
    They then add up in int64: below 2**26 + 2**16 elements, that is below 2**63.
    """

    CHUNK: ClassVar[int] = 1 << 16
    SETTLE_AT: ClassVar[int] = 1 << 26

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__()
        self._double = dtype.itemsize == 8
        self._power = 1074 if self._double else 149
        # How far left each weighted sum stands: of l, then of l * l (where a doubled product stands one further).
        self._shifts = ((0, 17, 34), (0, 18, 34, 52, 68)) if self._double else ((0,), (0,))
        self._pending = 0
        self._table: Counts = np.zeros((1 + sum(map(len, self._shifts)), _KEYS), np.int64)

    def add(self, values: Array) -> None:
        """Take elements of shape (n,); those that are not finite are only counted."""
        values = np.ascontiguousarray(values, np.float64 if self._double else np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            self._non_finite += values.size - int(np.count_nonzero(finite))
            values = values[finite]
        if not values.size:
            return
        self._extend(float(values.min()) + 0.0, float(values.max()) + 0.0)  # + 0.0: one zero, whichever came first
        keys, weights = _weights_64(values) if self._double else _weights_32(values)
        self._table[0] += np.bincount(keys, minlength=_KEYS)
        for row, weight in enumerate(weights, start=1):
            self._table[row] += np.bincount(keys, weight, minlength=_KEYS).astype(np.int64)
        self._finite += values.size
        self._pending += values.size
        if self._pending >= self.SETTLE_AT:
            self._settle()

    def moments(self) -> Moments:
        """The sums over the power of two of the smallest subnormal."""
        return self._moments(self._power)

    def _settle(self) -> None:
        if not self._pending:
            return
        self._add_bins(_LOG_INDEX_64 if self._double else _LOG_INDEX_32, self._table[0])
        for key in np.flatnonzero(self._table[0]).tolist():
            self._settle_key(key, self._table[:, key].tolist())
        self._table[:] = 0
        self._pending = 0

    def _settle_key(self, key: int, sums: list[int]) -> None:
        """Add the elements of one key: sign, exponent field and first mantissa bits tell T and the power of two."""
        top_bits, low_bits = (2, 50) if self._double else (5, 18)
        linear_shifts, square_shifts = self._shifts
        count, linear_sums, square_sums = sums[0], sums[1 : 1 + len(linear_shifts)], sums[1 + len(linear_shifts) :]
        linear = sum(part << shift for part, shift in zip(linear_sums, linear_shifts, strict=True))
        square = sum(part << shift for part, shift in zip(square_sums, square_shifts, strict=True))
        exponent, top = divmod(key & (_SIGN_KEY - 1), 1 << top_bits)
        if exponent:
            top += 1 << top_bits  # normal numbers have a leading one that is not stored
        top <<= low_bits
        scale = max(exponent, 1) - 1
        total = (count * top + linear) << scale
        self._total += -total if key & _SIGN_KEY else total
        self._squares += (count * top * top + 2 * top * linear + square) << 2 * scale


Weights = list[npt.NDArray[np.float64]]


def _weights_32(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.intp], Weights]:
    """The keys of finite float32 values, and the weights l and l * l."""
    pattern = values.view(np.uint32)
    low = (pattern & np.uint32((1 << 18) - 1)).astype(np.float64)
    return (pattern >> np.uint32(18)).astype(np.intp), [low, low * low]


def _weights_64(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], Weights]:
    """The keys of finite float64 values, and the weights of l = a * 2**34 + b * 2**17 + c and of l * l."""
    pattern = values.view(np.uint64)
    limb = np.uint64((1 << 17) - 1)
    c = (pattern & limb).astype(np.float64)
    b = (pattern >> np.uint64(17) & limb).astype(np.float64)
    a = (pattern >> np.uint64(34) & np.uint64((1 << 16) - 1)).astype(np.float64)
    return (pattern >> np.uint64(50)).astype(np.intp), [c, b, a, c * c, b * c, 2 * a * c + b * b, a * b, a * a]
