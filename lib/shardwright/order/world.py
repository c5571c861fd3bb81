"""Who is reading: this process's rank among all that train together, and its node."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shardwright.errors import WorldError

_RANKS_AND_SIZES = (
    "RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "PMI_RANK",
    "PMI_SIZE",
)  # fmt: skip
"""What launchers call a process's number, and how many there are: named in errors."""


@dataclass(frozen=True)
class World:
    """This process is rank `rank` of `size`, on node `node` of `nodes`; `World()` is one process alone.

    Where `size` is a multiple of `nodes`, every node is taken to have equally many ranks, numbered node by node; for another
    numbering give `local_rank`, this process's number on its node. With unequal ranks per node (`size` is no multiple of
    `nodes`), who takes what goes by rank alone. Raises WorldError for numbers that don't fit together.
    """

    rank: int = 0
    size: int = 1
    node: int = 0
    nodes: int = 1
    local_rank: int | None = None

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if (name, value) == ("local_rank", None):
                continue
            if not isinstance(value, int | np.integer):
                raise WorldError(f"{name}: expected a whole number, found {value!r}; World(rank, size) of this process")
            object.__setattr__(self, name, int(value))  # NumPy's own would not be JSON in a state
        if self.size < 1 or not 0 <= self.rank < self.size:
            raise WorldError(f"expected 0 <= rank < size, found rank {self.rank} of {self.size}; count ranks from 0")
        if self.nodes < 1 or not 0 <= self.node < self.nodes:
            raise WorldError(f"expected 0 <= node < nodes, found node {self.node} of {self.nodes}; count nodes from 0")
        if self.nodes > self.size:
            raise WorldError(f"{self.size} ranks on {self.nodes} nodes: expected at least one rank on every node")
        if not self.equal_ranks:
            return
        each = self.size // self.nodes
        if self.local_rank is None and self.rank // each != self.node:
            raise WorldError(
                f"rank {self.rank} of {self.size} is not on node {self.node} of {self.nodes} when ranks are numbered node by "
                f"node, {each} on each; give local_rank=, or leave node and nodes out"
            )
        if self.local_rank is not None and not 0 <= self.local_rank < each:
            raise WorldError(
                f"local rank {self.local_rank} on node {self.node}: expected less than {each}, since {self.size} ranks on "
                f"{self.nodes} nodes are {each} on each; with unequal ranks per node leave node and nodes out"
            )

    @property
    def equal_ranks(self) -> bool:
        """Whether every node has equally many ranks."""
        return self.size % self.nodes == 0

    @property
    def turn(self) -> int:
        """This rank takes the positions g with g mod size == turn.

        That is: position g goes to node g mod nodes, and there to local rank (g // nodes) mod (size / nodes); with unequal
        ranks per node to rank g mod size.
        """
        if not self.equal_ranks:
            return self.rank
        each = self.size // self.nodes
        local = self.rank % each if self.local_rank is None else self.local_rank
        return self.node + self.nodes * local

    @classmethod
    def of(cls, rank: int, size: int, environ: Mapping[str, str] | None = None) -> World:
        """Rank `rank` of `size`, as a framework says, with the nodes of `from_env` where that describes the same rank."""
        try:
            found = cls.from_env(environ)
        except WorldError:  # half a launcher's: the framework knows
            return cls(rank, size)
        return found if (found.rank, found.size) == (rank, size) else cls(rank, size)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> World:
        """The world that a launcher describes in the environment; one process alone where none does.

        Known, in this order: torchrun, Open MPI, Slurm's srun, PMI (MPICH, Intel MPI), TF_CONFIG. Within a Slurm job mpirun
        lets srun start one daemon on each node, whose children have its SLURM_PROCID: there MPI's own word counts. Raises
        WorldError when the description is incomplete or contradicts itself.
        """
        env = os.environ if environ is None else environ
        try:
            return cls._launched(env)
        except WorldError as error:
            found = ", ".join(f"{name}={env[name]}" for name in _RANKS_AND_SIZES if name in env)
            raise WorldError(f"{error} (in the environment: {found})" if found else str(error)) from error

    @classmethod
    def _launched(cls, env: Mapping[str, str]) -> World:
        if "RANK" in env and "WORLD_SIZE" in env:
            return _torchrun(env)
        if "OMPI_COMM_WORLD_RANK" in env:
            return _mpi(
                env, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"
            )
        if "SLURM_PROCID" in env and not _started_by_hydra(env):
            return _slurm(env)
        if "PMI_RANK" in env:
            return _mpi(env, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
        if "TF_CONFIG" in env:
            return _tensorflow(env["TF_CONFIG"])
        if "RANK" in env or "WORLD_SIZE" in env:
            raise WorldError(
                "the launcher's environment is incomplete: expected RANK and WORLD_SIZE, or none of them; pass "
                "world=World(rank, size), or make the loader when torch.distributed knows (Lightning: in train_dataloader)"
            )
        return cls()


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except KeyError:
        raise WorldError(f"the launcher's environment is incomplete: {name} is not set; pass world=World(rank, size)") from None
    except ValueError:
        raise WorldError(f"{name}={env[name]!r}: expected a whole number") from None


def _torchrun(env: Mapping[str, str]) -> World:
    rank, size = _number(env, "RANK"), _number(env, "WORLD_SIZE")
    if "GROUP_WORLD_SIZE" not in env:
        return World(rank, size)
    nodes, node = _number(env, "GROUP_WORLD_SIZE"), _number(env, "GROUP_RANK")
    local = _number(env, "LOCAL_RANK")
    return World(rank, size, node, nodes, local if nodes and size % nodes == 0 else None)


def _started_by_hydra(env: Mapping[str, str]) -> bool:
    """Whether mpiexec of MPICH or Intel MPI started this process within a Slurm job; srun --mpi=pmi2 sets PMI_RANK as well."""
    if "PMI_RANK" not in env or "PMI_SIZE" not in env:
        return False
    return (env["PMI_RANK"], env["PMI_SIZE"]) != (env["SLURM_PROCID"], env.get("SLURM_STEP_NUM_TASKS"))


def _slurm(env: Mapping[str, str]) -> World:
    """Slurm sets the variables of a job in its batch script too; those of a step only where srun started the process."""
    if "SLURM_STEP_NUM_TASKS" not in env:
        if _number(env, "SLURM_NTASKS") > 1:
            raise WorldError(
                f"SLURM_NTASKS={env['SLURM_NTASKS']}, but srun did not start this process: start it by srun, or pass "
                "world=World() to read alone"
            )
        return World()
    rank, size = _number(env, "SLURM_PROCID"), _number(env, "SLURM_STEP_NUM_TASKS")
    nodes = _number(env, "SLURM_STEP_NUM_NODES")
    local = _number(env, "SLURM_LOCALID") if nodes and size % nodes == 0 else None
    return World(rank, size, _number(env, "SLURM_NODEID"), nodes, local)


def _mpi(env: Mapping[str, str], rank_name: str, size_name: str, local_rank_name: str, local_size_name: str) -> World:
    """MPI names no node: it follows from ranks numbered node by node, which is checked."""
    rank, size = _number(env, rank_name), _number(env, size_name)
    if local_rank_name not in env or local_size_name not in env:
        return World(rank, size)
    local, each = _number(env, local_rank_name), _number(env, local_size_name)
    if each < 1 or size % each or rank % each != local:
        raise WorldError(
            f"rank {rank} of {size} is local rank {local} of {each}: which node that is can't be told unless every node has "
            "equally many ranks, numbered node by node; pass world=World(rank, size)"
        )
    return World(rank, size, rank // each, size // each)


def _tensorflow(text: str) -> World:
    """Chief first, then workers; tasks with the same host name share a node."""
    try:
        config = json.loads(text)
        kind, index = str(config["task"]["type"]), int(config["task"]["index"])
        groups = {name: list(config["cluster"].get(name, [])) for name in ("chief", "master", "worker")}
        tasks = [(name, number) for name in groups for number in range(len(groups[name]))]
        hosts = [str(address).rpartition(":")[0] for addresses in groups.values() for address in addresses]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorldError(f"TF_CONFIG: expected JSON with cluster and task (type, index), {error!r}") from error
    if (kind, index) not in tasks:
        raise WorldError(f"TF_CONFIG: task {kind} {index} trains nothing here: expected one of {tasks}; pass world=World()")
    rank = tasks.index((kind, index))
    nodes = list(dict.fromkeys(hosts))
    if len({hosts.count(host) for host in nodes}) > 1:
        return World(rank, len(tasks))  # unequal ranks per node, and every task sees that
    return World(rank, len(tasks), nodes.index(hosts[rank]), len(nodes), hosts[:rank].count(hosts[rank]))
