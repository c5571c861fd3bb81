"""Any partition into batches and any merge tree ends in the same summary, to the bit, and in the exact moments."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.format import exact
from shardwright.format.statistics import FieldSummary
from shardwright.schema import INTEGERS, NUMBERS, Field

SHAPES: tuple[tuple[int, ...], ...] = ((), (2,), (2, 1, 3))


@st.composite
def samples(draw: st.DrawFn) -> tuple[Field, np.ndarray[Any, Any]]:
    field = Field(name="x", dtype=draw(st.sampled_from(("bool", *NUMBERS))), shape=draw(st.sampled_from(SHAPES)))
    shape = (draw(st.integers(0, 12)), *field.shape)
    return field, draw(hnp.arrays(field.numpy_dtype, shape))  # type: ignore[arg-type]


def merged(data: st.DataObject, parts: list[FieldSummary]) -> FieldSummary:
    """Merge in any order and any tree; some travel as JSON on the way."""
    while len(parts) > 1:
        one = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        two = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        if data.draw(st.booleans()):
            one = FieldSummary.from_json(one.field, json.loads(json.dumps(one.to_json(), allow_nan=False)))
        one.merge(two)
        parts.append(one)
    return parts[0]


@given(samples(), st.data())
@settings(max_examples=150, deadline=None)
def test_partition_and_merge_order_do_not_matter(
    given_samples: tuple[Field, np.ndarray[Any, Any]], data: st.DataObject
) -> None:
    field, values = given_samples
    whole = FieldSummary(field)
    whole.update(values)
    order = data.draw(st.permutations(range(len(values))))
    parts = [FieldSummary(field) for _ in range(data.draw(st.integers(1, 4)))]
    for position in order:
        parts[data.draw(st.integers(0, len(parts) - 1))].update(values[position : position + 1])
    found = merged(data, parts)
    assert json.dumps(found.to_json()) == json.dumps(whole.to_json())
    assert repr(found.finish()) == repr(whole.finish())


@given(samples())
@settings(max_examples=150, deadline=None)
def test_moments_are_the_exact_ones(given_samples: tuple[Field, np.ndarray[Any, Any]]) -> None:
    field, values = given_samples
    summary = FieldSummary(field)
    summary.update(values)
    found = summary.finish()
    for channel, column in enumerate(values.reshape(-1, len(found.mean)).T.tolist()):
        numbers = [Fraction(value) for value in column if math.isfinite(value)]
        assert found.non_finite[channel] == len(column) - len(numbers)
        if not numbers:
            assert found.mean[channel] is None
            continue
        mean = sum(numbers, Fraction()) / len(numbers)
        variance = sum(((number - mean) ** 2 for number in numbers), Fraction()) / len(numbers)
        assert found.mean[channel] == float(mean)
        assert_nearest_root(found.std[channel], variance)
        assert [found.min[channel], found.max[channel]] == [min(numbers), max(numbers)]


@given(st.fractions(min_value=0), st.integers(-1200, 900))
@settings(max_examples=500, deadline=None)
def test_roots_are_the_nearest_floats(fraction: Fraction, exponent: int) -> None:
    ratio = fraction * Fraction(2) ** (2 * exponent)
    assert_nearest_root(exact.sqrt_ratio(ratio.numerator, ratio.denominator), ratio)


@given(st.integers(1, 2**53), st.integers(-30, 30), st.integers(-1, 1))
def test_roots_next_to_the_middle_of_two_floats(mantissa: int, exponent: int, side: int) -> None:
    middle = Fraction(2 * (mantissa + 2**52) + 1) * Fraction(2) ** exponent
    ratio = middle**2 + Fraction(side, 2**700)
    assert_nearest_root(exact.sqrt_ratio(ratio.numerator, ratio.denominator), ratio)


@given(st.data())
@settings(deadline=None)
def test_labels_do_not_depend_on_merge_order(data: st.DataObject) -> None:
    field = Field(name="x", dtype=data.draw(st.sampled_from(("string", "bool", *INTEGERS))), nullable=True)
    value = {"string": st.text(max_size=3), "bool": st.booleans()}.get(field.dtype, st.integers(0, 100))
    batches = data.draw(st.lists(st.lists(st.none() | value, max_size=5), min_size=1, max_size=5))
    parts = [FieldSummary(field) for _ in batches]
    for part, batch in zip(parts, batches, strict=True):
        part.update_column(batch)
    whole = FieldSummary(field)
    whole.update_column([one for batch in batches for one in batch])
    assert json.dumps(merged(data, parts).to_json()) == json.dumps(whole.to_json())


def assert_nearest_root(found: float | None, ratio: Fraction) -> None:
    """By squares alone, in integers: the root lies between the middles to the neighbouring floats; ties to even."""
    assert found is not None
    above = (Fraction(found) + Fraction(math.nextafter(found, math.inf))) / 2
    below = (Fraction(found) + Fraction(math.nextafter(found, -math.inf))) / 2 if found else Fraction(0)
    even = (Fraction(found) / Fraction(math.ulp(found))).numerator % 2 == 0
    if even:
        assert below**2 <= ratio <= above**2
    else:
        assert below**2 < ratio < above**2
