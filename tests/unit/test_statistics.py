"""Statistics of a field against oracles: fractions, decimal, NumPy, collections.Counter."""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwright.errors import SchemaError
from shardwright.format import exact
from shardwright.format.statistics import FieldStatistics, FieldSummary
from shardwright.schema import DType, Field

INTEGER_EXTREMES: list[tuple[str, list[float]]] = [
    (name, [int(np.iinfo(name).min), int(np.iinfo(name).max), 0, 1, int(np.iinfo(name).max) - 1, 77])
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
]
FLOAT_EXTREMES: list[tuple[str, list[float]]] = [
    ("float16", [6e-8, -6e-8, 65504.0, -1.0, 0.1]),
    ("float32", [1e-45, 1.1754942e-38, 3.4028235e38, -3.0, 0.1, -0.0, 1 + 2**-23]),
    ("float64", [5e-324, -5e-324, 2.2e-308, 1.7e308, 1.7e308, -1e308, 0.1, 1 + 2**-52, math.pi * 1e-200]),
    ("float64", [5e-324, 5e-324, -5e-324, 1e-323]),
    ("float64", [1e16, 1.0, -1e16, 1e-16]),
]


def summary_of(dtype: DType, values: Any, shape: tuple[int | None, ...] = ()) -> FieldSummary:
    summary = FieldSummary(Field(name="x", dtype=dtype, shape=shape))
    summary.update(np.asarray(values, summary.field.numpy_dtype))
    return summary


def exact_moments(values: np.ndarray[Any, Any]) -> tuple[Fraction, Fraction]:
    ratios = [value.as_integer_ratio() for value in values.ravel().tolist()]
    unit = max(denominator for _, denominator in ratios)  # all are powers of two
    numbers = [numerator * (unit // denominator) for numerator, denominator in ratios]
    count, total, squares = len(numbers), sum(numbers), sum(number * number for number in numbers)
    return Fraction(total, count * unit), Fraction(count * squares - total**2, (count * unit) ** 2)


def rounded_root(variance: Fraction) -> float:
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 1500, 10**6, -(10**6)
        return float((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())


@pytest.mark.parametrize(("dtype", "values"), INTEGER_EXTREMES + FLOAT_EXTREMES)
def test_extremes_are_rounded_once_from_the_exact_value(dtype: DType, values: list[float]) -> None:
    array = np.array(values, dtype)
    mean, variance = exact_moments(array)
    found = summary_of(dtype, array).finish()
    assert found.mean == (float(mean),)
    assert found.std == (rounded_root(variance),)
    assert (found.min, found.max) == ((array.min().item(),), (array.max().item(),))
    assert type(found.min[0]) is type(array.min().item())
    assert sum(found.histogram[0].counts) == len(values)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64"])
def test_many_elements_against_fractions_and_numpy(dtype: DType) -> None:
    random = np.random.default_rng(3)
    array = (random.normal(60, 9, (200_000,)) * (10.0 ** random.integers(-4, 1, 200_000))).astype(dtype)
    found = summary_of(dtype, array).finish()
    mean, variance = exact_moments(array)
    assert found.mean == (float(mean),)
    assert found.std == (rounded_root(variance),)
    wide = array.astype(np.float64)
    np.testing.assert_allclose([found.mean[0], found.std[0]], [wide.mean(), wide.std()], rtol=1e-13)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Fraction(0), 0.0),
        (Fraction(2), math.sqrt(2)),
        (Fraction(49, 9 * 2**4000), 0.0),
        (Fraction(10) ** 616, 1e308),
        (Fraction(1, 4**1074), 5e-324),
        # Just over half of the smallest subnormal; half to even would give zero.
        (Fraction(1, 4**1075) + Fraction(1, 2**4000), 5e-324),
        # A hair below, at and above the middle between 1 and the next float.
        ((1 + Fraction(1, 2**53)) ** 2 - Fraction(1, 2**500), 1.0),
        ((1 + Fraction(1, 2**53)) ** 2, 1.0),
        ((1 + Fraction(1, 2**53)) ** 2 + Fraction(1, 2**500), 1 + 2**-52),
    ],
)
def test_root_of_a_ratio_rounds_once(ratio: Fraction, expected: float) -> None:
    assert exact.sqrt_ratio(ratio.numerator, ratio.denominator) == expected


@pytest.mark.parametrize("size", [0, 1, 5_000, exact.SMALL_BYTES + 13, 3_000_001])
@pytest.mark.parametrize("zeros", [0.0, 0.9, 1.0])
def test_bytes_are_counted_on_every_path(size: int, zeros: float) -> None:
    random = np.random.default_rng(size)
    values = random.integers(0, 256, size, dtype=np.uint8)
    blank = random.random(size // 16 + 1).repeat(16)[:size] < zeros
    values[blank] = 0
    np.testing.assert_array_equal(exact.count_bytes(values), np.bincount(values, minlength=256))


@pytest.mark.parametrize(("shape", "channels"), [((5, 4, 3), 3), ((5, 4), 1), ((2, 5, 4, 1), 1), ((5, 4, 5), 1)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "int64"])
def test_channels_are_the_last_of_three_or_more_dimensions(dtype: DType, shape: tuple[int, ...], channels: int) -> None:
    array = np.random.default_rng(1).integers(0, 100, (7, *shape)).astype(dtype)
    found = summary_of(dtype, array, shape).finish()
    columns = array.reshape(-1, channels).astype(np.float64)
    np.testing.assert_allclose(np.array(found.mean, float), columns.mean(0), rtol=1e-14)
    np.testing.assert_allclose(np.array(found.std, float), columns.std(0), rtol=1e-14)
    assert found.min == tuple(columns.min(0))
    assert found.count == 7
    assert found.elements == (columns.shape[0],) * channels


def test_images_of_varying_size_come_one_by_one() -> None:
    summary = FieldSummary(Field(name="image", dtype="uint8", shape=(None, None, 3), codec="image"))
    images = [np.random.default_rng(n).integers(0, 256, (n, 2 * n, 3), dtype=np.uint8) for n in (3, 200)]
    for image in images:
        summary.update(image[None])
    summary.update(images[1][None, ::2, ::-1])
    pixels = np.concatenate([images[0].reshape(-1, 3), images[1].reshape(-1, 3), images[1][::2].reshape(-1, 3)])
    found = summary.finish()
    assert found.elements == (len(pixels),) * 3
    for channel, histogram in enumerate(found.histogram):
        values, counts = np.unique(pixels[:, channel], return_counts=True)
        assert (histogram.kind, histogram.bins, histogram.counts) == ("values", tuple(values), tuple(counts))


def test_non_finite_elements_are_counted_and_left_out() -> None:
    found = summary_of("float32", [1.0, math.nan, math.inf, -math.inf, 3.0]).finish()
    assert (found.count, found.elements, found.non_finite) == (5, (5,), (3,))
    assert (found.mean, found.std, found.min, found.max) == ((2.0,), (1.0,), (1.0,), (3.0,))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_nothing_finite_gives_none(dtype: DType) -> None:
    summary = summary_of(dtype, [math.nan] * 2 if dtype == "float64" else [])
    summary.add_missing(4)
    found = FieldSummary.from_json(summary.field, json.loads(json.dumps(summary.to_json()))).finish()
    assert (found.mean, found.std, found.min, found.max) == ((None,), (None,), (None,), (None,))
    assert found.missing == 4
    assert found.histogram[0].counts == ()


def test_there_is_one_zero() -> None:
    for values in ([-0.0, 0.0], [0.0, -0.0], [-0.0]):
        found = summary_of("float64", values).finish()
        numbers = (*found.min, *found.max, *found.mean, *found.std, *found.histogram[0].bins)
        assert [math.copysign(1, number) for number in numbers if number is not None] == [1.0] * 5
    tiny = summary_of("float64", [-5e-324] + [0.0] * 9).finish()
    assert str(tiny.mean[0]) == "0.0"


EDGES = [0.0] + [math.ldexp(1 + m / 4, e) for e in range(-126, 128) for m in range(4)]


def edge_below(value: Any) -> float:
    """The definition in words: the greatest of all bounds that is no greater than |value|."""
    return math.copysign(EDGES[bisect.bisect_right(EDGES, abs(value)) - 1], value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint64", "int32"])
def test_log_bins_hold_what_their_bounds_say(dtype: DType) -> None:
    random = np.random.default_rng(5)
    if dtype.startswith("float"):
        array = (random.normal(0, 1, 300) * 10.0 ** random.integers(-37, 38, 300)).astype(dtype)
        array[:4] = 0, 1.25, -1.75, 1e-45 if dtype == "float32" else 1e300
    else:
        info = np.iinfo(dtype)
        powers = [2**power + step for power in range(2, 64) for step in (-1, 0, 1)]
        signed = [sign * power for sign in (-1, 1) for power in powers] + [info.min, info.max, 0, 1]
        array = np.array([number for number in signed if info.min <= number <= info.max], dtype)
    histogram = summary_of(dtype, array).finish().histogram[0]
    expected = Counter(edge_below(Fraction(value)) for value in array.tolist())  # no rounding of 64-bit integers
    assert dict(zip(histogram.bins, histogram.counts, strict=True)) == expected
    assert list(histogram.bins) == sorted(histogram.bins)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", "bool"])
def test_labels_of_numbers(dtype: DType) -> None:
    array = np.random.default_rng(2).integers(0, 100, 500).astype(dtype)
    labels = summary_of(dtype, array).finish().labels
    assert labels is not None
    assert dict(zip(labels.values, labels.counts, strict=True)) == Counter(array.tolist())
    assert {type(value) for value in labels.values} == {bool if dtype == "bool" else int}


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_labels_end_at_the_limit(dtype: DType) -> None:
    within = summary_of(dtype, np.arange(1024))
    assert len(getattr(within.finish().labels, "values", ())) == 1024
    over = FieldSummary.from_json(within.field, within.to_json())
    over.merge(summary_of(dtype, [5000]))
    assert over.finish().labels is None
    within_again = summary_of(dtype, [1])
    within_again.merge(over)
    assert within_again.finish().labels is None
    assert summary_of(dtype, np.arange(1024).reshape(1, -1), (1024,)).finish().labels is None


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_strings(kind: pa.DataType) -> None:
    summary = FieldSummary(Field(name="word", dtype="string", nullable=True))
    words = ["b", None, "ä", "b", "", None]
    summary.update_column(pa.array(words).cast(kind))
    summary.update_column(words)
    summary.update_column([])
    found = summary.finish()
    assert (found.count, found.missing, found.mean) == (8, 4, ())
    assert found.labels is not None
    assert (found.labels.values, found.labels.counts) == (("", "b", "ä"), (2, 4, 2))
    summary.update_column(["x" * 257])
    assert summary.finish().labels is None


def test_scalar_columns_with_nulls() -> None:
    for dtype, values in (("int16", [3, None, 5]), ("float32", [3.0, None, 5.0]), ("uint64", [3, None, 5])):
        summary = FieldSummary(Field(name="x", dtype=dtype, nullable=True))
        summary.update_column(values)
        summary.update_column(pa.chunked_array([pa.array(values, dtype.replace("float32", "float"))]))
        found = summary.finish()
        assert (found.count, found.missing, found.mean, found.std) == (4, 2, (4.0,), (1.0,))
    flags = FieldSummary(Field(name="x", dtype="bool", nullable=True))
    flags.update_column([True, None, False, True])
    assert flags.finish().mean == (2 / 3,)
    blobs = FieldSummary(Field(name="x", dtype="bytes", nullable=True))
    blobs.update_column([b"\xff", None])
    assert blobs.finish() == FieldStatistics(count=1, missing=1)


def test_timestamps_are_microseconds_and_nat_is_missing() -> None:
    summary = FieldSummary(Field(name="at", dtype="timestamp", nullable=True))
    summary.update(np.array([10, "NaT", 20], "M8[us]"))
    summary.update_column(pa.array([30, None], pa.timestamp("us")))
    found = summary.finish()
    assert (found.count, found.missing, found.mean, found.min, found.max) == (3, 2, (20.0,), (10,), (30,))


def test_statistics_survive_json() -> None:
    for summary in (summary_of("float64", [1.0, 5.0]), summary_of("int32", [1, 5]), summary_of("bool", [True, False])):
        found = summary.finish()
        again = FieldStatistics.model_validate_json(found.model_dump_json())
        assert again.model_dump_json() == found.model_dump_json()
        assert [type(low) for low in again.min] == [type(low) for low in found.min]


def test_what_does_not_fit_is_refused() -> None:
    summary = summary_of("uint8", np.zeros((1, 4, 3)), (4, 3))
    for wrong in (np.zeros((1, 4, 3)), np.zeros((4, 3), np.uint8), np.zeros((1, 3, 4), np.uint8)):
        with pytest.raises(SchemaError, match="expected uint8 of shape"):
            summary.update(wrong)
    with pytest.raises(SchemaError, match="update"):
        summary.update_column([1])
    with pytest.raises(SchemaError, match="update_column"):
        FieldSummary(Field(name="x", dtype="string")).update(np.array(["a"]))
    with pytest.raises(SchemaError, match="two fields"):
        summary.merge(summary_of("uint8", [1]))


def test_long_float_inputs_settle_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(4).normal(size=300_000)
    expected = summary_of("float64", array).to_json()
    monkeypatch.setattr(exact.Floats, "SETTLE_AT", 70_000)
    assert summary_of("float64", array).to_json() == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stretch_of_the_largest_mantissas_stays_exact(dtype: DType) -> None:
    array = np.full(600_001, np.nextafter(np.array(2, dtype), np.array(0, dtype)))
    found = summary_of(dtype, array).finish()
    assert (found.mean, found.std) == ((array[0].item(),), (0.0,))
