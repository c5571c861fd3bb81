"""Who is reading, as PyTorch knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from shardwright.errors import WorldError
from shardwright.order import Axis, Place, Topology, World

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def place(mesh: DeviceMesh, axes: Mapping[str, Axis] | None = None) -> Place:
    """Where this rank stands in `mesh`, and the World it reads in: ``loader(…, world=place(mesh).world)``.

    The names of the mesh's dims say what they are: several of data parallelism (ddp, fsdp, dp_replicate, dp_shard, …) make one,
    and `axes` tells those that are not known, as in `Topology.from_dims`. Raises WorldError for a mesh without names, or one
    that is not made of all ranks in ascending order, as `init_device_mesh` makes it.
    """
    found, ranks = world(), mesh.mesh.flatten().tolist()
    if mesh.mesh_dim_names is None:
        raise WorldError(
            f"the mesh {tuple(mesh.mesh.shape)} has no dim names: init_device_mesh(…, mesh_dim_names=('dp', 'tp'))"
        )
    if ranks != list(range(found.size)):
        raise WorldError(
            f"the mesh has {len(ranks)} ranks, {ranks[:8]} first: expected all {found.size} in ascending order; pass the whole "
            "mesh, none of its slices, or say sw.Topology(…).place(World(rank, size))"
        )
    return Topology.from_dims(dict(zip(mesh.mesh_dim_names, mesh.mesh.shape, strict=True)), axes).place(found)


def check_found(made_for: World) -> None:
    """Raise WorldError where a loader that was made for the world found then is read from in another one now."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if (made_for.rank, made_for.size) != (rank, size):
        raise WorldError(
            f"the loader was made as rank {made_for.rank} of {made_for.size}, and torch.distributed says rank {rank} of {size} "
            "now: make it after init_process_group (Lightning: in train_dataloader), or pass world="
        )


def world() -> World:
    """This process among all that `torch.distributed` knows where that is initialised, else `World.from_env()`."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return World.of(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return World.from_env()
