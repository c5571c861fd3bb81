"""Which host is which node: the best sum, and of equal ones the first, as trying all of them gives it."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shardwright.order.placement import best_hosts


@st.composite
def tables(draw):
    """Bytes of up to 6 nodes on as many hosts; small numbers, so that many answers are equally good, or large ones."""
    count = draw(st.integers(0, 6))
    return draw(arrays(np.int64, (count, count), elements=st.integers(0, draw(st.sampled_from([1, 3, 2**50])))))


@given(tables())
def test_the_first_of_the_best(local):
    nodes = np.arange(len(local))
    tried = itertools.permutations(range(len(local)))  # in order, and max takes the first
    best = max(tried, key=lambda hosts: sum(int(local[pair]) for pair in zip(nodes, hosts, strict=True)))
    assert best_hosts(local).tolist() == list(best)


@given(st.permutations(range(40)))
def test_hosts_that_hold_all_of_one_node(order):
    local = np.zeros((40, 40), np.int64)
    local[np.arange(40), order] = 7
    assert best_hosts(local).tolist() == order


def test_without_a_local_byte_the_order_stays():
    assert best_hosts(np.zeros((300, 300), np.int64)).tolist() == list(range(300))


def test_many_nodes():
    """Against the bound that prices give: 400 nodes with blocks on some 100 random hosts each."""
    local = np.random.default_rng(0).integers(0, 3, (400, 400)) ** 6 * 2**20
    hosts = best_hosts(local)
    assert sorted(hosts.tolist()) == list(range(400))
    assert local[np.arange(400), hosts].sum() == 400 * 64 * 2**20  # every node has a host with the most there is
