"""One rank of 2 x 2 device meshes: what it reads in each, as JSON. Run by test_torch_topology."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import shardwright as sw
import shardwright.torch as swt
from shardwright.errors import WorldError


def main(root: str, meeting: str, rank: int, *meshes: str) -> None:
    """`meshes`: "NAME,NAME" of the dims of each."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=4)
    try:
        train = sw.open_dataset(root)
        unnamed = refused(lambda: swt.place(init_device_mesh("cpu", (2, 2))))
        told = {names: read(train, names.split(","), unnamed) for names in meshes}
    finally:
        torch.distributed.destroy_process_group()
    print(json.dumps(told))


def read(train: sw.Dataset, names: list[str], unnamed: str) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=tuple(names))
    place = swt.place(mesh)
    loader = swt.loader(train, 3, world=place.world, seed=5, transform=place.context("tokens", zigzag=True))
    batches = [(batch["id"], batch["tokens"]) for batch in loader] if place.reads else []
    return {
        "ranks": [getattr(place, axis) for axis in ("pp", "dp", "cp", "tp")],
        "coordinate": mesh.get_coordinate(),
        "world": [place.world.rank, place.world.size],
        "ids": [ids.tolist() for ids, _ in batches],
        "state": loader.state_dict(),
        "whole": [whole(tokens, mesh).tolist() for _, tokens in batches] if "cp" in names else [],
        "sliced": refused(lambda: swt.place(mesh[names[0]])),
        "unnamed": unnamed,
    }


def whole(tokens: torch.Tensor, mesh: DeviceMesh) -> torch.Tensor:
    """The sequence that all context-parallel ranks have together, as one after the other has it."""
    gathered = [torch.empty_like(tokens) for _ in range(mesh["cp"].size())]
    torch.distributed.all_gather(gathered, tokens, group=mesh["cp"].get_group())
    return torch.cat(gathered, dim=1)


def refused(call: Callable[[], object]) -> str:
    try:
        call()
    except WorldError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
