"""What hypothesis draws orders and worlds from."""

from __future__ import annotations

from hypothesis import strategies as st

from shardwright.order import Plan, World


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of 1 to 6 shards, equal or the first ones larger by 1."""
    shards, size = draw(st.integers(1, 6)), draw(st.integers(1, 60))
    larger = draw(st.integers(0, shards - 1))
    return Plan(
        content_id=draw(st.sampled_from(["a" * 64, "b" * 64])), seed=draw(st.integers(0, 2**64 - 1)),
        shuffle=draw(st.sampled_from(["none", "window", "global"])), shards=tuple(range(shards)),
        samples=tuple(size + (shard < larger) for shard in range(shards)), block_samples=draw(st.integers(1, 20)),
        window_blocks=draw(st.integers(1, 5)),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> list[World]:
    """All ranks of a world: equal ranks on 1 to 3 nodes, or a number of ranks that nodes don't divide."""
    nodes, each = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = nodes * each + draw(st.integers(0, nodes - 1))
    if size % nodes:
        return [World(rank, size, min(rank // each, nodes - 1), nodes) for rank in range(size)]
    return [World(rank, size, rank // each, nodes) for rank in range(size)]
