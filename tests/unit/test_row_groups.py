"""Row groups are cut by the samples' own sizes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.spark.row_groups import RowGroupCutter, row_groups

_SIZES = st.lists(st.integers(0, 50), max_size=60)


@given(_SIZES, st.integers(1, 120))
def test_all_samples_in_order_none_above_the_limit_unless_alone(sizes: list[int], limit: int) -> None:
    groups = row_groups(np.array(sizes, np.int64), limit)
    assert [row for first, stop in groups for row in range(first, stop)] == list(range(len(sizes)))
    for first, stop in groups:
        assert stop > first
        assert sum(sizes[first:stop]) <= limit or stop - first == 1


@given(_SIZES, st.integers(1, 120))
def test_no_group_could_take_another_sample(sizes: list[int], limit: int) -> None:
    for first, stop in row_groups(np.array(sizes, np.int64), limit)[:-1]:
        assert sum(sizes[first : stop + 1]) > limit


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([], []),
        ([10], [(0, 1)]),
        ([5, 5, 5], [(0, 2), (2, 3)]),
        ([11, 11], [(0, 1), (1, 2)]),
        ([2, 99, 2, 2], [(0, 1), (1, 2), (2, 4)]),
        ([0, 0, 0], [(0, 3)]),
    ],
)
def test_examples(sizes: list[int], expected: list[tuple[int, int]]) -> None:
    assert row_groups(np.array(sizes, np.int64), 10) == expected


@given(_SIZES, st.integers(1, 120), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_chunks_are_cut_as_all_samples_would_be(sizes: list[int], limit: int, lengths: list[int]) -> None:
    rows = np.arange(len(sizes))
    cutter, found = RowGroupCutter(limit), []
    for piece in np.split(rows, np.cumsum(lengths)):
        if len(piece):
            chunk = pa.RecordBatch.from_pydict({"row": piece, "text": [f"{row}" for row in piece]})
            found += list(cutter.add(chunk, np.array(sizes)[piece]))
    found += list(cutter.rest())
    expected = row_groups(np.array(sizes, np.int64), limit)
    assert [group["row"].to_pylist() for group, _ in found] == [list(range(first, stop)) for first, stop in expected]
    assert [group["text"].to_pylist() for group, _ in found] == [
        [str(r) for r in range(first, stop)] for first, stop in expected
    ]
    assert [size for _, size in found] == [sum(sizes[first:stop]) for first, stop in expected]
