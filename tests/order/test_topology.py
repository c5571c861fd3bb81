"""Topologies: groups read the same samples, together all of them; context parts make up the whole."""

from __future__ import annotations

import itertools
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shardwright as sw
from shardwright.errors import ConfigError, SchemaError, WorldError
from shardwright.order import Axis, Batches, Context, Place, Topology, World
from shardwright.schema import Field, Schema
from tests.datasets import publish

AXES: tuple[Axis, ...] = ("pp", "dp", "cp", "tp")


def places(topology: Topology, size: int, nodes: int = 1) -> list[Place]:
    """That of each rank."""
    return [topology.place(World(rank, size, rank * nodes // size, nodes)) for rank in range(size)]


def groups(topology: Topology, size: int, *axes: Axis) -> list[list[int]]:
    """Ranks that differ along `axes` alone."""
    others: dict[tuple[int, ...], list[int]] = {}
    for rank, place in enumerate(places(topology, size)):
        others.setdefault(tuple(getattr(place, axis) for axis in AXES if axis not in axes), []).append(rank)
    return sorted(others.values())


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[Place], int]:
    """The places of all ranks, and the nodes that they are on: any sizes, order, and number of nodes that divides the ranks."""
    dp, tp, pp, cp = (draw(st.integers(1, most)) for most in (6, 3, 4, 3))
    topology = Topology(dp=draw(st.sampled_from([dp, None])), tp=tp, pp=pp, cp=cp, order=tuple(draw(st.permutations(AXES))))
    size = dp * tp * pp * cp
    nodes = draw(st.sampled_from([nodes for nodes in range(1, size + 1) if size % nodes == 0]))
    return places(topology, size, nodes), nodes


@given(grids())
def test_every_rank_has_a_place_of_its_own_and_a_group_has_one_world(grid):
    ranks, _ = grid
    topology = ranks[0].topology
    assert {(p.pp, p.dp, p.cp, p.tp) for p in ranks} == set(
        itertools.product(*(range(n) for n in (topology.pp, topology.dp or 0, topology.cp, topology.tp)))
    )
    of_group = {place.dp: place.world for place in ranks}
    assert all(place.world == of_group[place.dp] for place in ranks)
    assert all((world.rank, world.size) == (dp, topology.dp) for dp, world in of_group.items())
    assert sorted(world.turn for world in of_group.values()) == list(range(len(of_group)))
    assert all(place.reads == (place.pp in {0, topology.pp - 1}) for place in ranks)


@given(grids(), st.integers(0, 150), st.integers(1, 7), st.sampled_from(["short", "drop", "pad"]))
def test_groups_share_out_an_epoch(grid, total, batch_size, last):
    taken: dict[int, list[list[int]]] = {}
    for place in grid[0]:
        batches = Batches(world=place.world, batch_size=batch_size, total=total, consumed=0, last=last, wrap=max(total, 1))
        positions, padded = batches.positions(0, batches.samples)
        taken.setdefault(place.dp, []).append(positions[~padded].tolist() if padded is not None else positions.tolist())
    assert all(own == of_group[0] for of_group in taken.values() for own in of_group), "one group, the same samples"
    together = sorted(position for of_group in taken.values() for position in of_group[0])
    assert together == list(range(len(together))), "none twice, none left out before the last ones"
    left = total - len(together)
    assert left <= {"short": len(taken) - 1, "drop": len(taken) * batch_size - 1, "pad": 0}[last]


@given(grids())
def test_a_node_needs_the_shards_of_its_worlds_node_alone(grid):
    """And no node needs another's: sets of nodes that count as one are linked by groups that span them."""
    ranks, nodes = grid
    of_node: dict[int, set[int]] = {}
    linked = {node: {node} for node in range(nodes)}
    on = [rank * nodes // len(ranks) for rank in range(len(ranks))]
    for node, place in zip(on, ranks, strict=True):
        if place.reads:
            of_node.setdefault(node, set()).add(place.world.node)
    for (a, one), (b, other) in itertools.combinations(zip(on, ranks, strict=True), 2):
        if one.reads and other.reads and one.dp == other.dp and linked[a] is not linked[b]:
            linked[a] |= linked[b]
            for node in linked[b]:
                linked[node] = linked[a]
    assert all(len(own) == 1 for own in of_node.values())
    assert len({id(linked[node]) for node in of_node}) == ranks[0].world.nodes
    for a, b in itertools.combinations(of_node, 2):
        assert (of_node[a] == of_node[b]) == (linked[a] is linked[b])


@pytest.mark.parametrize(
    "topology, nodes, expected",
    [
        (Topology(tp=4), 2, [(0, 2), (0, 2), (1, 2), (1, 2)]),  # groups within nodes
        (Topology(tp=8, dp=2), 4, [(0, 2), (1, 2)]),  # a group is two nodes
        (Topology(pp=2), 2, [(0, 1)] * 8),  # every group's stages are on both
        (Topology(pp=2), 4, [(0, 2)] * 4 + [(1, 2)] * 4),  # nodes 0 and 2, 1 and 3
        (Topology(pp=2, order=("dp", "pp", "tp")), 4, [(node // 2, 4) for node in range(8)]),
        (Topology(dp=2, pp=4, tp=2), 4, [(0, 1)] * 2),  # nodes 1 and 2 read nothing
    ],
)
def test_nodes_of_groups(topology, nodes, expected):
    worlds = {place.dp: place.world for place in places(topology, 16, nodes)}
    assert [(worlds[dp].node, worlds[dp].nodes) for dp in range(len(worlds))] == expected


def test_ranks_are_numbered_as_megatron_does():
    """Its documentation's 16 GPUs, tp 2 and pp 4; with --use-tp-pp-dp-mapping dp is the outermost."""
    topology = Topology(tp=2, pp=4)
    assert groups(topology, 16, "dp") == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]]
    assert groups(topology, 16, "tp") == [[rank, rank + 1] for rank in range(0, 16, 2)]
    assert groups(topology, 16, "pp") == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]
    outermost = Topology(tp=2, pp=4, order=("dp", "pp", "cp", "tp"))
    assert groups(outermost, 16, "pp", "tp") == [list(range(8)), list(range(8, 16))]


def test_dims_of_a_mesh():
    mesh = {"pp": 2, "dp_replicate": 1, "fsdp": 4, "ep": 1, "cp": 2, "tp": 8}
    assert Topology.from_dims(mesh) == Topology(dp=4, tp=8, pp=2, cp=2)
    assert Topology.from_dims({"dp_replicate": 2, "dp_shard": 3}) == Topology(dp=6, order=("dp",))
    assert Topology.from_dims({"tensor_parallel": 2}) == Topology(dp=1, tp=2, order=("tp",))
    assert Topology.from_dims({"x": 3, "sp": 2}, {"x": "dp", "sp": "cp"}) == Topology(dp=3, cp=2, order=("dp", "cp"))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Topology(tp=0), "expected at least 1 rank along every axis of the topology, found tp=0"),
        (lambda: Topology(dp=-1, cp=0), "found dp=-1, cp=0"),
        (lambda: Topology(order=("dp", "tp", "tp")), "order: expected each of pp, dp, cp, tp once, the outermost first"),
        (lambda: Topology(order=("dp", "ep")), r"order: expected .* found \('dp', 'ep'\)"),  # type: ignore[arg-type]
        (lambda: Topology(dp=2, cp=2, order=("dp", "tp")), r"order: \('dp', 'tp'\) lacks cp=2; name every axis with more"),
        (lambda: Topology(dp=2, tp=4).place(World(0, 6)), "pp=1, dp=2, cp=1, tp=4 has 8 ranks, the world 6"),
        (lambda: Topology(tp=4).place(World(0, 6)), "pp=1, cp=1, tp=4 needs a multiple of 4 ranks, the world has 6"),
        (lambda: Topology(tp=2).place(World(1, 8, 1, 2, 0)), "rank 1 of 8 is local rank 0 on node 1 of 2: which nodes a model"),
        (lambda: Topology(tp=2).place(World(1, 8, 0, 3)), "equally many on each; pass World"),
        (lambda: Topology.from_dims({"dp": 2, "sp": 2}), r"dim 'sp' of the mesh .* its 2 ranks .* say axes=\{'sp': …\}"),
        (lambda: Topology.from_dims({"dp": 2, "tp": 2, "fsdp": 2}), "dim 'fsdp' .* all dims of dp side by side, and tp lies"),
        (lambda: Topology.from_dims({"x": 2}, {"x": "ep"}), r"order: expected .* found \('ep',\)"),  # type: ignore[dict-item]
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(WorldError, match=message):
        make()


def parts(size: int, batch: dict, *fields: str, axis: int = 1, zigzag: bool = False) -> list[dict]:
    return [Context(fields=fields, axis=axis, zigzag=zigzag, rank=rank, size=size)(batch) for rank in range(size)]


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data())
def test_parts_make_up_the_whole(size, chunk, zigzag, others, data):
    axis = data.draw(st.integers(1, len(others)))
    length = 2 * size * chunk
    shape = (*others[:axis], length, *others[axis:])
    whole = np.arange(math.prod(shape)).reshape(shape)
    cut = parts(size, {"tokens": whole, "label": np.zeros(shape[0])}, "tokens", axis=axis, zigzag=zigzag)
    assert {part["tokens"].shape[axis] for part in cut} == {2 * chunk}
    assert all(part["label"].shape == shape[:1] for part in cut)
    joined = np.concatenate([part["tokens"] for part in cut], axis=axis)
    positions = np.concatenate(
        [Context(fields=("x",), axis=1, zigzag=zigzag, rank=rank, size=size).positions(length) for rank in range(size)]
    )
    assert np.array_equal(joined, whole.take(positions, axis=axis))
    assert sorted(positions) == list(range(length))
    assert zigzag or np.array_equal(joined, whole)
    if zigzag:  # causal attention: value i looks at i + 1 values
        assert len({int(own.sum()) for own in positions.reshape(size, -1)}) == 1


def test_zigzag_takes_a_chunk_from_either_end():
    tokens = np.arange(8)[None]
    assert [part["tokens"].tolist() for part in parts(2, {"tokens": tokens}, "tokens", zigzag=True)] == [
        [[0, 1, 6, 7]],
        [[2, 3, 4, 5]],
    ]
    assert [part["tokens"].tolist() for part in parts(2, {"tokens": tokens}, "tokens")] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]
    (alone,) = parts(1, {"tokens": tokens[:, :7]}, "tokens", zigzag=True)
    assert alone["tokens"].tolist() == [[0, 1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"axis": 0}, ConfigError, "axis: expected at least 1, since axis 0 is the samples of the batch, found 0"),
        ({"fields": ()}, ConfigError, "fields: expected the names of the sequence fields to cut, found none"),
        ({"fields": ("token",)}, SchemaError, "no field 'token' in the batch; did you mean 'tokens'"),
        ({"fields": ("text",)}, SchemaError, "'text' has strings, bytes or arrays of several shapes"),
        ({"fields": ("label",)}, SchemaError, r"'label' is \(2,\) in the batch, and has no axis 1"),
        ({}, SchemaError, r"'tokens' is \(2, 10\): expected a multiple of 4 along axis 1, for 4 ranks; cut it to 8 or pad"),
        (
            {"zigzag": True},
            SchemaError,
            "expected a multiple of 8 .* for 4 ranks with 2 chunks each; cut it to 8 or pad it to 16$",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(options, error, message):
    batch = {"tokens": np.zeros((2, 10)), "label": np.zeros(2), "text": np.array(["a", "b"], object)}
    with pytest.raises(error, match=message):
        Context(**({"fields": ("tokens",), "axis": 1, "zigzag": False, "rank": 0, "size": 4} | options))(batch)


TEXT = Schema(fields=(Field(name="tokens", dtype="int32", shape=(8,)), Field(name="id", dtype="int64")))


def text(samples: int) -> dict:
    return {"tokens": np.arange(samples * 8, dtype=np.int32).reshape(-1, 8), "id": np.arange(samples)}


@pytest.mark.parametrize("nodes, order", [(2, ("dp", "cp", "tp")), (4, ("dp", "cp", "tp")), (2, ("tp", "dp", "cp"))])
def test_a_dataset_in_shards_on_nodes(tmp_path, nodes, order):
    """8 ranks, dp 2, cp 2, tp 2; each node has the shards of its worlds' node alone."""
    publish(tmp_path / "whole", {"train": text(44)}, TEXT, shards=4)
    served: dict[tuple[int, int], list[tuple[list[int], np.ndarray]]] = {}
    for rank, place in enumerate(places(Topology(dp=2, cp=2, tp=2, order=order), 8, nodes)):
        root = shutil.copytree(tmp_path / "whole", tmp_path / f"rank{rank}")
        for shard in range(4):
            if shard % place.world.nodes != place.world.node:
                shutil.rmtree(root / f"v000001/train/shard={shard:05d}")
        loader = sw.open_dataset(str(root)).loader(
            batch_size=4, world=place.world, seed=3, node_local=True, transform=place.context("tokens")
        )
        own = [(batch["id"].tolist(), batch["tokens"]) for batch in loader]
        for (ids, tokens), (same, others) in zip(own, served.setdefault((place.dp, place.cp), own), strict=True):
            assert ids == same
            assert np.array_equal(tokens, others), "tensor-parallel ranks read the same"
    seen = []
    for dp in range(2):
        for (ids, first), (same, second) in zip(served[dp, 0], served[dp, 1], strict=True):
            assert ids == same
            assert np.array_equal(np.hstack([first, second]), text(44)["tokens"][ids])
            seen += ids
    assert sorted(seen) == list(range(44))
