"""Model parallelism: which ranks of a World read the same samples, and which stretch of a sequence each of them gets.

A model that is too large for one rank is spread over a group of them: tensor (tp), pipeline (pp) and context (cp) parallelism.
The groups are the data-parallel (dp) ranks of training, so they take turns with samples where single ranks would: a group is
one rank of the World that a loader gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from shardwright.errors import WorldError
from shardwright.order.context import Context
from shardwright.order.world import World

Axis = Literal["pp", "dp", "cp", "tp"]
I64 = npt.NDArray[np.int64]
_AXES: tuple[Axis, ...] = get_args(Axis)
_DIMS: dict[str, Axis] = {
    **dict.fromkeys(("dp", "data", "data_parallel", "batch", "ddp", "fsdp", "replicate", "shard"), "dp"),
    **dict.fromkeys(("dp_replicate", "dp_shard", "dp_shard_mod_ep", "dp_shard_in_ep"), "dp"),
    **dict.fromkeys(("tp", "tensor", "tensor_parallel"), "tp"),
    **dict.fromkeys(("pp", "pipeline", "pipeline_parallel"), "pp"),
    **dict.fromkeys(("cp", "context", "context_parallel"), "cp"),
}
"""What PyTorch's own examples, torchtitan, Lightning, Accelerate and JAX users call the dims of their meshes."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The ranks of a World as a grid: `dp` groups of `tp` x `pp` x `cp` ranks that each hold one model.

    dp=None: as many groups as the world's ranks make. `order` names the axes as the dims of a device mesh, the last one's ranks
    being neighbours; axes of size 1 may be left out. The default is that of Megatron-LM, which writes it the other way round
    ("tp-cp-ep-dp-pp"), and of torchtitan. Expert parallelism shares out the experts among these same ranks, and is
    no axis. Raises WorldError for sizes or an order that can't be.
    """

    dp: int | None = None
    tp: int = 1
    pp: int = 1
    cp: int = 1
    order: tuple[Axis, ...] = ("pp", "dp", "cp", "tp")

    def __post_init__(self) -> None:
        sizes = self._sizes
        if wrong := {axis: size for axis, size in sizes.items() if size < 1}:
            raise WorldError(f"expected at least 1 rank along every axis of the topology, found {_listed(wrong)}")
        if len(set(self.order)) < len(self.order) or not set(self.order) <= set(_AXES):
            raise WorldError(f"order: expected each of {', '.join(_AXES)} once, the outermost first, found {self.order}")
        if missing := {axis: size for axis, size in sizes.items() if size > 1 and axis not in self.order}:
            raise WorldError(f"order: {self.order} lacks {_listed(missing)}; name every axis with more than one rank")

    @classmethod
    def from_dims(cls, dims: Mapping[str, int], axes: Mapping[str, Axis] | None = None) -> Topology:
        """The topology of a device mesh with named dims, the outermost first: {"dp_replicate": 2, "dp_shard": 4, "tp": 8}.

        Several data dims make one axis. `axes` says which axis a dim is whose name is not known: {"sp": "cp"}. Raises
        WorldError for other names, and where another dim lies between two of one axis.
        """
        known = _DIMS | dict(axes or {})
        sizes: dict[Axis, int] = {}
        for name, size in dims.items():
            if size == 1:
                continue
            if name not in known:
                raise WorldError(
                    f"dim {name!r} of the mesh {dict(dims)}: whether its {size} ranks read the same samples is not known; say "
                    f"axes={{{name!r}: …}} with dp, tp, pp or cp; known: {', '.join(known)}"
                )
            axis = known[name]
            if axis in sizes and next(reversed(sizes)) != axis:
                raise WorldError(
                    f"dim {name!r} of the mesh {dict(dims)}: expected all dims of {axis} side by side, and "
                    f"{next(reversed(sizes))} lies between; order the mesh otherwise, or pass World(rank, size) to the loader"
                )
            sizes[axis] = sizes.get(axis, 1) * size
        return cls(
            dp=sizes.get("dp", 1), tp=sizes.get("tp", 1), pp=sizes.get("pp", 1), cp=sizes.get("cp", 1), order=tuple(sizes)
        )

    def place(self, world: World | None = None) -> Place:
        """Where the rank of `world`, which counts all ranks, stands (None: `World.from_env()`).

        Raises WorldError where the grid does not have as many ranks as the world, or where the world has several nodes and
        ranks are not numbered node by node, equally many on each: the nodes of the other ranks are not known then.
        """
        world = World.from_env() if world is None else world
        sizes, each = self._sizes, self.tp * self.pp * self.cp
        if self.dp is None:
            if world.size % each:
                model = _listed({axis: size for axis, size in sizes.items() if axis != "dp"})
                raise WorldError(f"the topology {model} needs a multiple of {each} ranks, the world has {world.size}")
            return replace(self, dp=world.size // each).place(world)
        if self.dp * each != world.size:
            raise WorldError(f"the topology {_listed(sizes)} has {self.dp * each} ranks, the world {world.size}")
        order = (*self.order, *(axis for axis in _AXES if axis not in self.order))
        grid = np.arange(world.size).reshape([sizes[axis] for axis in order])
        grid = grid.transpose([order.index(axis) for axis in ("dp", "pp", "cp", "tp")])
        dp, pp, cp, tp = (int(found[0]) for found in np.nonzero(grid == world.rank))
        readers = grid[:, sorted({0, self.pp - 1})].reshape(self.dp, -1)
        return Place(topology=self, dp=dp, tp=tp, pp=pp, cp=cp, world=_data_world(readers, dp, world))

    @property
    def _sizes(self) -> dict[Axis, int]:
        return {"pp": self.pp, "dp": 1 if self.dp is None else self.dp, "cp": self.cp, "tp": self.tp}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one rank stands in a topology: its rank along each axis, from 0, and what it reads there.

    `world` counts groups instead of ranks: rank `dp` of `topology.dp`, for `loader(world=…)`; equal on all ranks of a group, so
    these read the same samples. Its nodes are sets of machines that need the same shards: machines that a group spans count as
    one, and ``node_local=True`` asks of each machine of node k for all shards s with s mod nodes = k.
    """

    topology: Topology
    dp: int
    tp: int
    pp: int
    cp: int
    world: World

    @property
    def reads(self) -> bool:
        """Whether this rank needs samples: the first pipeline stage (inputs) and the last (labels), no stage between."""
        return self.pp in (0, self.topology.pp - 1)

    def context(self, *fields: str, axis: int = 1, zigzag: bool = False) -> Context:
        """A ``transform`` for the loader: cuts each of `fields` to the part of the sequence that this rank has.

        `axis` is that of the sequence, counted with the batch's axis 0. `zigzag` gives rank i of n the chunks i and
        2n - 1 - i of 2n, so that causal attention is as much work on every rank. See `Context`.
        """
        return Context(fields=fields, axis=axis, zigzag=zigzag, rank=self.cp, size=self.topology.cp)


def _data_world(readers: I64, group: int, world: World) -> World:
    """The World of group number `group`; `readers`: int64 (groups, n), the ranks of each that read, among those of `world`."""
    if world.nodes == 1:
        return World(group, len(readers))
    each = world.size // world.nodes
    if not world.equal_ranks or world.local_rank not in (None, world.rank - world.node * each):
        raise WorldError(
            f"rank {world.rank} of {world.size} is local rank {world.local_rank} on node {world.node} of {world.nodes}: which "
            "nodes a model-parallel group is on can't be told unless ranks are numbered node by node, equally many on each; "
            "pass World(rank, size), and give every node all shards"
        )
    node = readers // each  # of each reading rank
    low = np.arange(world.nodes)  # of each node the lowest one that it is known to share groups with
    while True:
        lower = low.copy()
        np.minimum.at(lower, node, low[node].min(axis=1, keepdims=True))
        if np.array_equal(low, lower):
            break
        low = lower
    # a grid is so regular that all these sets of nodes serve equally many groups; World would refuse it otherwise
    nodes, own = np.unique(low[node[:, 0]], return_inverse=True)
    local = int(np.count_nonzero(own[:group] == own[group]))
    return World(group, len(readers), int(own[group]), len(nodes), local)


def _listed(sizes: Mapping[Axis, int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in sizes.items())
