"""Device meshes: four processes, two by two, read what their place in the mesh says."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.processes import run

SAMPLES, LENGTH = 31, 8
TEXT = Schema(fields=(Field(name="tokens", dtype="int32", shape=(LENGTH,)), Field(name="id", dtype="int64")))
AXES = ("pp", "dp", "cp", "tp")


MESHES = ("fsdp,tp", "dp,cp", "pp,dp_shard", "dp_replicate,dp_shard")


@pytest.fixture(scope="module")
def four_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank says of each mesh; one set of processes for all of them, since importing PyTorch is what takes time."""
    folder = tmp_path_factory.mktemp("text")
    tokens = np.arange(SAMPLES * LENGTH, dtype=np.int32).reshape(SAMPLES, LENGTH)
    publish(folder / "d", {"train": {"tokens": tokens, "id": np.arange(SAMPLES)}}, TEXT, shards=3, remainder="spread")
    arguments = [str(folder / "d"), str(folder / "meet")]
    told = run([["-m", "tests.reader.topology_rank", *arguments, str(rank), *MESHES] for rank in range(4)])
    return [json.loads(one.splitlines()[-1]) for one in told]  # before that Gloo says who is connected


@pytest.mark.parametrize("mesh", MESHES)
def test_four_processes(four_ranks, mesh):
    names, told = mesh.split(","), [one[mesh] for one in four_ranks]
    for one in told:
        of_dim = dict(zip(names, one["coordinate"], strict=True))
        data = [dim for name, dim in of_dim.items() if name not in AXES or name == "dp"]
        expected = of_dim | {"dp": int(np.ravel_multi_index(data, (2,) * len(data)))}
        assert one["ranks"] == [expected.get(axis, 0) for axis in AXES]
        assert one["world"] == [expected["dp"], 2 ** len(data)]
        assert "the mesh has 2 ranks" in one["sliced"]
        assert "expected all 4 in ascending order; pass the whole mesh" in one["sliced"]
        assert "the mesh (2, 2) has no dim names: init_device_mesh(…, mesh_dim_names=" in one["unnamed"]
    by_group = defaultdict(list)
    for one in told:
        by_group[one["world"][0]].append(one["ids"])
    assert all(ids == group[0] for group in by_group.values() for ids in group), "one group reads the same samples"
    seen = [i for group in by_group.values() for batch in group[0] for i in batch]
    assert len(seen) == len(set(seen)) == SAMPLES - SAMPLES % len(by_group)
    assert len({json.dumps(one["state"]) for one in told}) == 1
    for one in told:
        for ids, tokens in zip(one["ids"], one["whole"], strict=names[1] == "cp"):
            zigzag = np.array([0, 1, 6, 7, 2, 3, 4, 5])
            assert tokens == (np.array(ids)[:, None] * LENGTH + zigzag).tolist()
