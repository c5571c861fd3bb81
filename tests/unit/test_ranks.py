"""Keys at ranks are those of a plain sort, however keys are binned; and bytes sort as the values do that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.hashing import place_keys
from shardwright.hashing.places import as_column, as_matrix, keys_of, order_of, ordered_place_keys
from shardwright.hashing.ranks import UNIFORM_BINS, Bins, keys_at, past_the_end, wanted_by_bin
from shardwright.hashing.sortable import TEXT_BYTES, can_sort, sortable
from shardwright.schema import Field

WIDTH = 28


@st.composite
def keys(draw: st.DrawFn) -> npt.NDArray[np.uint8]:
    """1 to 60 different keys in few bins: many share one, many end in zero bytes."""
    heads = draw(st.lists(st.sampled_from([0, 1, 7, 255, 256, UNIFORM_BINS - 1]), min_size=1, max_size=60))
    out = np.zeros((len(heads), WIDTH), np.uint8)
    out[:, :2] = np.array(heads, ">u2").view(np.uint8).reshape(-1, 2)
    out[:, 2] = draw(st.lists(st.integers(0, 3), min_size=len(heads), max_size=len(heads)))
    which = draw(st.sampled_from([3, 15, 26]))  # what tells them apart; zeros follow
    out[:, which] = np.arange(len(heads))
    return out


@given(keys(), st.data())
def test_keys_at_ranks_are_those_of_a_plain_sort(rows: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    ordered = sorted(row.tobytes() for row in rows)
    some = data.draw(st.sets(st.sampled_from(ordered)))
    bins = data.draw(st.sampled_from([Bins(), Bins(()), Bins(tuple(sorted(some)))]))
    counts = np.bincount(bins.of(rows), minlength=bins.count)
    assert len(counts) == bins.count
    ranks = sorted(data.draw(st.sets(st.integers(0, len(rows) + 3))))
    wanted = wanted_by_bin(counts, ranks)
    candidates = rows[np.isin(bins.of(rows), list(wanted))]
    assert keys_at(bins, wanted, candidates) == {rank: ordered[rank] for rank in ranks if rank < len(rows)}


def test_equal_keys_have_ranks_of_their_own() -> None:
    rows = np.zeros((5, WIDTH), np.uint8)
    rows[3:, 5] = 9
    wanted = wanted_by_bin(np.bincount(Bins().of(rows), minlength=UNIFORM_BINS), [0, 2, 3, 4])
    found = keys_at(Bins(), wanted, rows)
    assert [found[rank][5] for rank in (0, 2, 3, 4)] == [0, 0, 9, 9]
    assert {len(key) for key in found.values()} == {WIDTH}


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1))
def test_bins_are_ranges_of_keys(values: list[bytes]) -> None:
    rows = np.frombuffer(b"".join(sorted(values)), np.uint8).reshape(-1, 4)
    for bins in (Bins(), Bins(tuple(sorted(set(values[::2]))))):
        found = bins.of(rows)
        assert (np.diff(found) >= 0).all()
        assert ((found >= 0) & (found < bins.count)).all()


def test_nothing_is_past_the_end() -> None:
    assert past_the_end(3) > b"\xff" * 3


VALUES: list[tuple[str, Any]] = [
    ("bool", st.booleans()),
    ("int8", st.integers(-128, 127)),
    ("uint16", st.integers(0, 2**16 - 1)),
    ("int64", st.integers(-(2**63), 2**63 - 1)),
    ("uint64", st.integers(0, 2**64 - 1)),
    ("float32", st.floats(width=32, allow_nan=False)),
    ("float64", st.floats(allow_nan=False)),
    ("timestamp", st.datetimes()),
    ("string", st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=16)),
]


@pytest.mark.parametrize("dtype, values", VALUES, ids=[dtype for dtype, _ in VALUES])
@given(data=st.data())
def test_bytes_sort_as_values_do(dtype: Any, values: Any, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(values, min_size=1, max_size=20))
    field = Field(name="x", dtype=dtype)
    kind = {"timestamp": pa.timestamp("us"), "bool": pa.bool_()}.get(dtype) or pa.type_for_alias(dtype)
    rows, bad = sortable(field, pa.array(drawn, kind))
    assert not bad
    encoded = [row.tobytes() for row in rows]
    assert len({len(row) for row in encoded}) == 1
    for one, one_bytes in zip(drawn, encoded, strict=True):
        for other, other_bytes in zip(drawn, encoded, strict=True):
            assert (one < other) == (one_bytes < other_bytes)
            assert (one == other) == (one_bytes == other_bytes)


def reasons(dtype: Any, values: Sequence[object]) -> dict[int, str]:
    kind = pa.string() if dtype == "string" else pa.float64()
    return sortable(Field(name="x", dtype=dtype, nullable=True), pa.array(values, kind))[1]


def test_values_without_a_place() -> None:
    assert reasons("float64", [1.0, float("nan"), None, float("inf")]) == {
        1: "NaN, which has no place", 2: "null, which has no place",
    }  # fmt: skip
    long = "ü" * (TEXT_BYTES // 2)
    assert list(reasons("string", [long, long + "x", "a\0", "", None])) == [4, 1, 2]


def test_what_has_an_order() -> None:
    assert not can_sort(Field(name="x", dtype="bytes"))
    assert not can_sort(Field(name="x", dtype="int8", shape=(2,)))
    assert can_sort(Field(name="x", dtype="timestamp"))


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=9), st.integers(1, 12))
def test_the_parts_of_a_place_key(raw: list[bytes], width: int) -> None:
    sample_keys = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)
    order = np.arange(len(raw) * width, dtype=np.uint8).reshape(-1, width)
    occurrence = np.arange(len(raw), dtype=np.uint32)
    places = ordered_place_keys(order, sample_keys, occurrence)
    assert (order_of(places) == order).all()
    assert (keys_of(places) == sample_keys).all()
    assert (as_matrix(as_column(places)) == places).all()
    assert (as_matrix(as_column(places).slice(len(raw) - 1)) == places[-1:]).all()
    hashed = place_keys(3, sample_keys, occurrence)
    assert (keys_of(hashed) == sample_keys).all()
    assert (ordered_place_keys(order_of(hashed), sample_keys, occurrence) == hashed).all()
