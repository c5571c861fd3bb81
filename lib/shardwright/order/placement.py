"""Which host is which node: shard s belongs on node s mod nodes; hosts are numbered so that most bytes lie there already."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_FAR = np.iinfo(np.int64).max


def best_hosts(local: I64) -> I64:
    """The host of each node, int64 (nodes,), each host once, with the largest sum of `local[node, host]`.

    `local`: int64 (nodes, hosts), equally many of both: the bytes of a node's shards that lie on a host. Of several best
    answers the one in which node 0 has the first host that it can have, then node 1, and so on: what is best decides, never how
    it was found. Time grows as nodes^3 at worst.
    """
    cost = local.max(initial=0) - local
    host_of, node_price, host_price = _cheapest(cost)
    # an assignment is a cheapest one exactly where it uses pairs alone whose cost is their prices' sum
    return _first(cost == node_price[:, None] + host_price, host_of)


def _cheapest(cost: I64) -> tuple[I64, I64, I64]:
    """A cheapest assignment, and the prices of nodes and hosts that prove it: no pair costs less than their sum.

    By shortest augmenting paths, as in Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on
    Aerospace and Electronic Systems 52(4), 2016, after the nodes that have a cheapest host to themselves have got it.
    """
    count = len(cost)
    host_price = cost.min(axis=0, initial=_FAR)
    node_price = (cost - host_price).min(axis=1, initial=_FAR)
    host_of, node_of = np.full(count, -1), np.full(count, -1)
    for node in range(count):
        free = np.flatnonzero((cost[node] == node_price[node] + host_price) & (node_of < 0))
        if len(free):
            host_of[node], node_of[free[0]] = free[0], node
    for start in np.flatnonzero(host_of < 0).tolist():
        _augment(start, cost, node_price, host_price, host_of, node_of)
    return host_of, node_price, host_price


def _augment(start: int, cost: I64, node_price: I64, host_price: I64, host_of: I64, node_of: I64) -> None:
    """Give node `start` a host, by the shortest chain of nodes that each take the next one's; changes all but `cost`."""
    count = len(cost)
    distance, before = np.full(count, _FAR), np.full(count, -1)
    reached = np.zeros(count, bool)
    node, so_far = start, np.int64(0)
    while True:
        through = so_far + cost[node] - node_price[node] - host_price
        closer = ~reached & (through < distance)
        distance[closer], before[closer] = through[closer], node
        still_open = np.where(reached, _FAR, distance)
        so_far = still_open.min()
        nearest = np.flatnonzero(still_open == so_far)
        free = nearest[node_of[nearest] < 0]
        host = int(free[0] if len(free) else nearest[0])
        reached[host] = True
        if node_of[host] < 0:
            break
        node = int(node_of[host])
    taken = reached & (node_of >= 0)
    node_price[start] += so_far
    node_price[node_of[taken]] += so_far - distance[taken]
    host_price[taken] -= so_far - distance[taken]
    while host >= 0:
        node = int(before[host])
        node_of[host] = node
        host, host_of[node] = int(host_of[node]), host


def _first(fits: Bool, host_of: I64) -> I64:
    """Of all assignments with fitting pairs alone the first, by the hosts of node 0, 1, …; `host_of` is any of them."""
    host_of = host_of.copy()
    node_of = np.argsort(host_of)
    for node in range(len(host_of)):
        own = int(host_of[node])
        wanted = np.flatnonzero(fits[node, :own])
        wanted = wanted[node_of[wanted] > node]
        if not len(wanted):
            continue
        next_host = _chains(fits, host_of, node)
        found = wanted[next_host[node_of[wanted]] >= 0]
        if not len(found):
            continue
        # whoever has the wanted host takes the next one's of its chain, which ends at the host that `node` gives up
        taker, host = node, int(found[0])
        while True:
            giver = int(node_of[host])
            host_of[taker], node_of[host] = host, taker
            if giver == node:
                break
            taker, host = giver, int(next_host[giver])
    return host_of


def _chains(fits: Bool, host_of: I64, node: int) -> I64:
    """For each later node the host to take, so that a chain of such nodes ends at the host of `node`; -1 where none does."""
    next_host = np.full(len(host_of), -1)
    later = np.arange(len(host_of)) > node
    ends = np.array([host_of[node]])
    while len(ends):
        to_ends = fits[:, ends]
        found = np.flatnonzero(later & (next_host < 0) & to_ends.any(axis=1))
        next_host[found] = ends[to_ends[found].argmax(axis=1)]
        ends = host_of[found]
    return next_host
