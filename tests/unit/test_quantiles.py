"""Quantiles against NumPy and exact fractions, and their independence of partitioning."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shardwright.format.quantiles import WIDE_LIMIT, Quantiles
from shardwright.format.statistics import FieldSummary
from shardwright.schema import DType, Field

QUARTERS = [Fraction(n, 4) for n in range(5)]


def of(values: np.ndarray[Any, Any], pieces: int = 1) -> Quantiles:
    out = Quantiles(values.dtype)
    for piece in np.array_split(values, pieces):
        part = Quantiles(values.dtype)
        part.add(piece)
        again = Quantiles(values.dtype)
        again.load(part.to_json())
        out.merge(again)
    return out


def exact(values: np.ndarray[Any, Any], share: Fraction) -> float:
    ordered = [Fraction(value) for value in np.sort(values).tolist()]
    rank = share * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (rank - low))


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "float16", "int32", "uint64", "int64", "float32", "float64"]
)
def test_few_distinct_values_are_exact(dtype: str) -> None:
    rng = np.random.default_rng(5)
    kinds = rng.normal(20, 30, 900).astype("i1" if np.dtype(dtype).itemsize == 1 else "i8")
    values = np.abs(kinds).astype(dtype) if dtype.startswith("u") else kinds.astype(dtype)
    found = of(rng.choice(values, 20_001), 7)
    rng = np.random.default_rng(5)
    rng.normal(20, 30, 900)
    sample = rng.choice(values, 20_001)
    for share in QUARTERS:
        assert found.quantile(share) == exact(sample, share)
        assert found.quantile(share) == pytest.approx(np.quantile(sample.astype("f8"), float(share)), rel=1e-12)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float16"])
def test_all_values_of_16_bits_are_exact(dtype: str) -> None:
    patterns = np.random.default_rng(1).permutation(np.arange(2**16, dtype="u2")).view(dtype)
    values = patterns[np.isfinite(patterns.astype("f8"))]
    for share in QUARTERS:
        assert of(values, 3).quantile(share) == exact(values, share)


@pytest.mark.parametrize("scale", [(0, 1), (100, 1), (1e6, 3), (-4, 1e-3)])
def test_many_values_are_near_beside_their_spread(scale: tuple[float, float]) -> None:
    """The bins are as narrow as the data allows: also where it lies far from zero."""
    values = np.random.default_rng(2).normal(*scale, 200_000)
    found = of(values)
    low, high = found.quantile(Fraction(1, 4)), found.quantile(Fraction(3, 4))
    expected = np.quantile(values, 0.75) - np.quantile(values, 0.25)
    assert low is not None
    assert high is not None
    assert abs((high - low) - expected) < 0.01 * expected


def test_an_outlier_costs_no_precision() -> None:
    values = np.append(np.random.default_rng(2).integers(0, 1000, 50_000), [2**62, -(2**62)])
    assert of(values).quantile(Fraction(1, 2)) == exact(values, Fraction(1, 2))


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_partitions_make_no_difference(values: np.ndarray[Any, Any], pieces: int, limit: int) -> None:
    def summary(parts: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
        out = Quantiles(np.dtype("f8"))
        out._limit = limit
        for part in parts:
            one = Quantiles(np.dtype("f8"))
            one._limit = limit
            one.add(part)
            out.merge(one)
        return out.to_json()

    whole = summary([values])
    assert summary(np.array_split(values, pieces)) == whole
    assert summary(np.array_split(values[::-1], pieces)[::-1]) == whole
    assert len(whole["counts"]) <= limit
    assert sum(whole["counts"]) == np.isfinite(values).sum()


def test_bins_stay_within_their_number() -> None:
    found = of(np.random.default_rng(0).normal(0, 1, 100_000)).to_json()
    assert WIDE_LIMIT // 3 < len(found["counts"]) <= WIDE_LIMIT


def test_no_elements() -> None:
    assert of(np.array([np.nan, np.inf])).quantile(Fraction(1, 2)) is None


def test_extremes_of_float64() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64).view("f8")
    values = np.append(values[np.isfinite(values)], [np.finfo("f8").max, np.finfo("f8").min])
    assert abs(of(values).quantile(Fraction(1, 2)) or 0) < 1e300
    assert of(np.full(9, np.finfo("f8").max)).quantile(Fraction(1, 2)) == np.finfo("f8").max


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_summary_tells_them_by_channel_and_of_the_whole(dtype: DType) -> None:
    values = np.random.default_rng(0).integers(0, 99, (50, 4, 5, 3)).astype(dtype)
    summary = FieldSummary(Field(name="x", dtype=dtype, shape=(4, 5, 3)), ranked=True)
    summary.update(values[:20])
    other = FieldSummary(summary.field, ranked=True)
    other.update(values[20:])
    summary.merge(FieldSummary.from_json(summary.field, other.to_json()))
    middle = Fraction(1, 2)
    assert summary.quantiles(middle, whole=False) == np.median(values.reshape(-1, 3), axis=0).tolist()
    assert summary.quantiles(middle, whole=True) == [np.median(values)]
    (whole,) = summary.moments(whole=True)
    assert whole.mean() == float(Fraction(int(values.sum(dtype="i8")), values.size))
    assert whole.std() == pytest.approx(values.std(dtype="f8"), rel=1e-12)
    assert (whole.low, whole.high) == (values.min(), values.max())
