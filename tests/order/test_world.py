"""Worlds: what launchers say, and what can't be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.errors import WorldError
from shardwright.order import World

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2",
}  # fmt: skip
SLURM = {
    "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}  # fmt: skip
OMPI = {
    "OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}  # fmt: skip
PMI = {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}


@pytest.mark.parametrize("env", [TORCHRUN, SLURM, OMPI, PMI])
def test_every_launcher_describes_the_same_world(env):
    world = World.from_env(env)
    assert (world.rank, world.size, world.node, world.nodes, world.turn) == (5, 8, 1, 2, 3)


@pytest.mark.parametrize("mpi", [OMPI, PMI])
@pytest.mark.parametrize("slurm", [{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}, {}])
def test_mpirun_within_a_slurm_job(mpi, slurm):
    """Its processes have the variables of the daemon that srun started on their node, or of the batch script."""
    daemon = {"SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"}
    assert World.from_env(daemon | slurm | mpi) == World(5, 8, 1, 2)


def test_srun_starts_mpi_processes_itself():
    """With --mpi=pmi2 it sets two of the variables of MPICH's mpiexec, but not those that tell of nodes."""
    assert World.from_env(SLURM | {"PMI_RANK": "5", "PMI_SIZE": "8"}) == World.from_env(SLURM)


def test_a_frameworks_rank_gets_the_nodes_of_its_environment():
    assert World.of(5, 8, TORCHRUN) == World.from_env(TORCHRUN)
    assert World.of(1, 2, TORCHRUN) == World(1, 2)
    assert World.of(1, 2, {"WORLD_SIZE": "2", "LOCAL_RANK": "1", "NODE_RANK": "0"}) == World(
        1, 2
    )  # as Lightning's children have


def test_alone_without_a_launcher():
    assert World.from_env({}) == World() == World(0, 1)


def test_tensorflow_counts_chief_then_workers_and_sees_nodes():
    cluster = {"chief": ["a:1"], "worker": ["a:2", "b:1", "b:2"]}
    env = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}})}
    assert World.from_env(env) == World(2, 4, 1, 2, 0)


def test_slurm_places_ranks_cyclically_too():
    worlds = [
        World.from_env({**SLURM, "SLURM_PROCID": str(r), "SLURM_NODEID": str(r % 2), "SLURM_LOCALID": str(r // 2)})
        for r in range(8)
    ]
    assert sorted(world.turn for world in worlds) == list(range(8))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: World(4, 4), "expected 0 <= rank < size, found rank 4 of 4"),
        (lambda: World(0, 0), "found rank 0 of 0"),
        (lambda: World(-1, 4), "expected 0 <= rank < size, found rank -1 of 4; count ranks from 0"),
        (lambda: World("1", 4), r"rank: expected a whole number, found '1'; World\(rank, size\)"),  # type: ignore[arg-type]
        (lambda: World(0, 2.0), "size: expected a whole number, found 2.0"),  # type: ignore[arg-type]
        (
            lambda: World.from_env({"RANK": "4", "WORLD_SIZE": "4"}),
            r"rank 4 of 4.*\(in the environment: RANK=4, WORLD_SIZE=4\)",
        ),
        (lambda: World.from_env({**SLURM, "SLURM_PROCID": "-1"}), r"rank -1 of 8.*SLURM_PROCID=-1, SLURM_STEP_NUM_TASKS=8\)"),
        (lambda: World.from_env({**SLURM, "SLURM_STEP_NUM_NODES": "0"}), "found node 1 of 0"),
        (lambda: World.from_env({**TORCHRUN, "GROUP_WORLD_SIZE": "0"}), "found node 1 of 0"),
        (lambda: World.from_env({"RANK": "1"}), r"expected RANK and WORLD_SIZE, or none.*\(in the environment: RANK=1\)"),
        (lambda: World.from_env({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}), "Lightning: in train_dataloader"),
        (lambda: World(0, 4, 2, 2), "expected 0 <= node < nodes, found node 2 of 2"),
        (lambda: World(0, 2, 0, 3), "2 ranks on 3 nodes: expected at least one rank on every node"),
        (lambda: World(0, 8, 1, 2), "rank 0 of 8 is not on node 1 of 2"),
        (lambda: World(3, 4, 0, 2, 2), "local rank 2 on node 0: expected less than 2"),
        (lambda: World.from_env({"RANK": "x", "WORLD_SIZE": "2"}), "RANK='x': expected a whole number"),
        (lambda: World.from_env({"OMPI_COMM_WORLD_RANK": "1"}), "OMPI_COMM_WORLD_SIZE is not set"),
        (lambda: World.from_env({**OMPI, "OMPI_COMM_WORLD_LOCAL_RANK": "2"}), "rank 5 of 8 is local rank 2 of 4"),
        (lambda: World.from_env({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}), "srun did not start this process"),
        (lambda: World.from_env({"TF_CONFIG": "{}"}), "TF_CONFIG: expected JSON with cluster and task"),
        (
            lambda: World.from_env({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}'}),
            "task ps 0 trains nothing here",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(WorldError, match=message):
        make()


@given(st.integers(1, 5), st.integers(1, 5))
def test_turns_follow_the_definition(nodes, each):
    """Position g goes to node g mod nodes, there to local rank (g // nodes) mod (W / nodes)."""
    size = nodes * each
    turns = {World(rank, size, rank // each, nodes).turn: (rank // each, rank % each) for rank in range(size)}
    for g in range(3 * size):
        assert turns[g % size] == (g % nodes, (g // nodes) % each)


def test_unequal_ranks_per_node_take_turns_by_rank():
    assert [World(rank, 5, min(rank // 3, 1), 2).turn for rank in range(5)] == list(np.arange(5))
