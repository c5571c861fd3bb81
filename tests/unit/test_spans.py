"""Requests that fetch many byte ranges."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from shardwright.storage.spans import coalesce


def test_neighbours_are_one_request():
    assert coalesce([(20, 30), (0, 10), (35, 40)], gap=5) == [(0, 10), (20, 40)]
    assert coalesce([(0, 10), (10, 20), (20, 30)], gap=0, limit=20) == [(0, 20), (20, 30)]
    assert coalesce([(0, 100)], gap=0, limit=20) == [(0, 100)]
    assert coalesce([(0, 10), (5, 30), (7, 8)], gap=0, limit=20) == [(0, 30)]
    assert coalesce([], gap=5) == []


SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)).map(lambda found: (found[0], sum(found))))


@given(SPANS, st.integers(0, 30), st.integers(1, 100))
def test_requests_hold_every_span_and_are_no_larger_than_they_must(spans, gap, limit):
    requests = coalesce(spans, gap, limit)
    assert requests == sorted(requests)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(requests))
    wanted = {place for start, end in spans for place in range(start, end)}
    for start, end in requests:
        inside = [(a, b) for a, b in spans if start <= a and b <= end]
        assert (start, end) == (min(a for a, _ in inside), max(b for _, b in inside))
        overlap = any(second < end for (_, end), (second, _) in itertools.pairwise(sorted(inside)))
        assert end - start <= limit or overlap or len(set(inside)) == 1
        read_along = "".join("." if place in wanted else " " for place in range(start, end))
        assert all(len(empty) <= gap for empty in read_along.split("."))
    assert all(any(start <= a and b <= end for start, end in requests) for a, b in spans)
