"""Quantiles of one channel from a mergeable summary of bounded size, the same however the elements were partitioned.

Elements are counted by an order-preserving integer pattern, cut by as many low bits as it takes to have at most `limit`
distinct ones. How many that is depends on the set of elements alone (a subset never needs more), so partial summaries
that were cut further than others merge without a trace. With up to `limit` distinct elements every quantile is exact;
beyond, an order statistic is off by less than the width of the bin that holds it: a stretch of values that share their
upper bits, chosen as narrow as `limit` bins allow.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

NARROW_LIMIT = 1 << 16
"""Elements of up to 16 bits have no more patterns."""
WIDE_LIMIT = 4096
_CHUNK = 1 << 16
_SIGN = np.uint64(1 << 63)

Patterns = npt.NDArray[np.uint64]


class Quantiles:
    """Counts of the finite elements of an integer, float or bool dtype by pattern."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._float = dtype.kind == "f"
        self._signed = dtype.kind == "i"
        self._limit = NARROW_LIMIT if dtype.itemsize <= 2 else WIDE_LIMIT
        self._shift = 0
        self._patterns: Patterns = np.empty(0, np.uint64)
        self._counts: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take elements of shape (n,); those that are not finite are left out."""
        for start in range(0, len(values), _CHUNK):
            patterns = self._order(values[start : start + _CHUNK]) >> np.uint64(self._shift)
            self._take(*np.unique(patterns, return_counts=True))

    def merge(self, other: Self) -> None:
        """Take all that another summary of the same dtype took."""
        shift = max(self._shift, other._shift)
        self._cut(shift)
        self._take(other._patterns >> np.uint64(shift - other._shift), other._counts)

    def to_json(self) -> dict[str, Any]:
        """The state as plain JSON values, the same for the same elements."""
        return {"shift": self._shift, "patterns": self._patterns.tolist(), "counts": self._counts.tolist()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `to_json`; for a new summary."""
        self._shift = state["shift"]
        self._patterns = np.array(state["patterns"], np.uint64)
        self._counts = np.array(state["counts"], np.int64)

    def quantile(self, share: Fraction) -> float | None:
        """The value below which `share` of the elements lie, between two of them by linear interpolation (as `numpy.quantile`
        does by default), rounded once; None without elements.
        """
        total = int(self._counts.sum())
        if not total:
            return None
        rank = share * (total - 1)
        low = int(rank)
        first = self._at(low)
        return float(first + (self._at(min(low + 1, total - 1)) - first) * (rank - low))

    def _at(self, rank: int) -> Fraction:
        """The element number `rank` in ascending order: itself, or by its rank within its bin."""
        ends = np.cumsum(self._counts)
        index = int(np.searchsorted(ends, rank, side="right"))
        pattern, count = int(self._patterns[index]) << self._shift, int(self._counts[index])
        low, high = self._value(pattern), self._value(pattern + (1 << self._shift) - 1)
        inside = rank - (int(ends[index]) - count)
        return low + (high - low) * Fraction(2 * inside + 1, 2 * count)

    def _order(self, values: npt.NDArray[Any]) -> Patterns:
        """uint64 that compare as the elements do."""
        if not self._float:
            out = values.astype(np.uint64)
            return out ^ _SIGN if self._signed else out
        finite = values[np.isfinite(values)].astype(np.float64) + 0.0  # one zero
        bits = finite.view(np.uint64)
        ordered: Patterns = np.where(bits >= _SIGN, ~bits, bits | _SIGN)
        return ordered

    def _value(self, pattern: int) -> Fraction:
        if not self._float:
            return Fraction(pattern - (1 << 63) if self._signed else pattern)
        bits = pattern ^ (1 << 63) if pattern >= 1 << 63 else pattern ^ ((1 << 64) - 1)
        value = np.uint64(bits).view(np.float64)
        largest = np.finfo(np.float64).max
        return Fraction(float(np.clip(value, -largest, largest)))  # the last bin reaches into the patterns of infinity

    def _take(self, patterns: Patterns, counts: npt.NDArray[np.int64]) -> None:
        self._patterns, self._counts = _grouped(np.append(self._patterns, patterns), np.append(self._counts, counts))
        self._cut(self._shift + _needed(self._patterns, self._limit))

    def _cut(self, shift: int) -> None:
        if shift > self._shift:
            self._patterns, self._counts = _grouped(self._patterns >> np.uint64(shift - self._shift), self._counts)
            self._shift = shift


def _grouped(patterns: Patterns, counts: npt.NDArray[np.int64]) -> tuple[Patterns, npt.NDArray[np.int64]]:
    """Distinct patterns, ascending, and the sums of their counts."""
    distinct, places = np.unique(patterns, return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, places, counts)
    return distinct, sums


def _needed(patterns: Patterns, limit: int) -> int:
    """By how many bits ascending `patterns` have to be cut for at most `limit` distinct ones."""
    if len(patterns) <= limit:
        return 0
    differ = patterns[1:] ^ patterns[:-1]
    low, high = 1, 64
    while low < high:
        middle = (low + high) // 2
        enough = np.count_nonzero(differ >> np.uint64(middle)) < limit
        low, high = (low, middle) if enough else (middle + 1, high)
    return low
