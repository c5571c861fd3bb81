"""Global arrays in one process, and what can't be one."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import shardwright as sw
import shardwright.jax as swj
from shardwright.errors import SchemaError, WorldError
from shardwright.schema import Schema
from tests.datasets import publish
from tests.processes import run

FIELDS: list[dict[str, Any]] = [
    {"name": "picture", "dtype": "uint8", "shape": [4, 5]}, {"name": "id", "dtype": "int64"},
    {"name": "half", "dtype": "float16"}, {"name": "double", "dtype": "float64"}, {"name": "flag", "dtype": "bool"},
    {"name": "huge", "dtype": "uint64"}, {"name": "when", "dtype": "timestamp"}, {"name": "text", "dtype": "string"},
    {"name": "path", "dtype": "float32", "shape": [None]}, {"name": "maybe", "dtype": "float32", "nullable": True},
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("arrays") / "d"
    rows = range(40)
    data: dict[str, Any] = {
        "picture": np.random.default_rng(0).integers(0, 256, (40, 4, 5), np.uint8), "id": rows, "half": np.arange(40) / 3,
        "double": np.arange(40) / 3, "flag": [i % 2 == 0 for i in rows], "huge": [2**63 - 1 - i for i in rows],
        "when": np.arange(40).astype("M8[us]") + np.timedelta64(10**15, "us"), "text": [str(i) for i in rows],
        "path": [np.zeros(i % 3, "f4") for i in rows], "maybe": [None if i % 3 == 1 else i / 2 for i in rows],
    }  # fmt: skip
    publish(root, {"train": data}, Schema.model_validate({"fields": FIELDS}), standardise=["picture"])
    return str(root)


def loader(root: str, *columns: str, **options: Any) -> sw.Loader:
    train = sw.open_dataset(root, columns=columns or ["picture", "id"])
    given: dict[str, Any] = {"batch_size": 16, "world": swj.world(), "last": "drop", "epochs": 1}
    return train.loader(**given | options)


def test_the_same_values_and_the_loaders_state(root: str) -> None:
    columns = ("picture", "id", "half", "double", "flag", "maybe", "_key")
    plain, ours = (loader(root, *columns, normalise=("picture",)) for _ in range(2))
    batches = swj.arrays(ours)
    assert len(batches) == 2
    for wanted, batch in zip(plain, batches, strict=True):
        assert set(batch) == set(wanted)
        assert all(isinstance(value, jax.Array) for value in batch.values())
        assert batch["id"].dtype == np.int32
        assert batch["double"].dtype == np.float32
        for name in ("picture", "half", "flag", "maybe", "maybe_mask", "_key"):
            assert batch[name].dtype == wanted[name].dtype
        for name in set(wanted) - {"double"}:
            assert np.array_equal(np.asarray(batch[name]), wanted[name], equal_nan=name == "maybe")
        assert np.array_equal(np.asarray(batch["double"]), wanted["double"].astype("f4"))
        assert ours.state_dict() == plain.state_dict()
    assert list(batches) == [], "the loader's one epoch is over"


def test_64_bits_where_jax_has_them(root: str) -> None:
    with jax.enable_x64(True):
        (batch,) = swj.arrays(loader(root, "id", "huge", "when", "double", batch_size=40))
        wanted = next(iter(loader(root, "id", "huge", "when", "double", batch_size=40)))
        for name in ("id", "huge", "double"):
            assert batch[name].dtype == wanted[name].dtype
            assert np.array_equal(np.asarray(batch[name]), wanted[name])
        assert np.array_equal(np.asarray(batch["when"]), wanted["when"].view("i8"))


@pytest.mark.parametrize("name", ["huge", "when"])
def test_what_32_bits_cannot_hold_is_refused(root: str, name: str) -> None:
    with pytest.raises(
        SchemaError, match=rf"'{name}' has values from \d+ to \d+, and JAX holds u?int32 here: set jax_enable_x64"
    ):
        next(iter(swj.arrays(loader(root, name))))


@pytest.mark.parametrize("name", ["text", "path"])
def test_what_jax_has_no_arrays_for(root: str, name: str) -> None:
    with pytest.raises(SchemaError, match=f"JAX has no arrays for '{name}' .*: name it in host="):
        next(iter(swj.arrays(loader(root, name, "id"))))
    wanted = next(iter(loader(root, name, "id")))
    batch = next(iter(swj.arrays(loader(root, name, "id"), host=(name,))))
    assert isinstance(batch["id"], jax.Array)
    assert batch[name].dtype == object
    assert [str(value) for value in batch[name]] == [str(value) for value in wanted[name]]


def test_a_sharding_of_ones_own(root: str) -> None:
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    batch = next(iter(swj.arrays(loader(root), sharding)))
    assert batch["picture"].sharding == sharding
    assert batch["picture"].shape == (16, 4, 5)


def test_the_world_is_that_of_jax_where_it_has_several_processes_else_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert swj.world() == sw.World()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert swj.world() == sw.World(1, 4), "not every process as if it were alone"


def test_a_loader_of_another_world_is_refused(root: str) -> None:
    message = (
        r"gives this process 32 of 32 rows, the loader 16: its world is rank 1 of 2, of 1 processes; pass world=swj.world\(\)"
    )
    with pytest.raises(WorldError, match=message):
        swj.arrays(loader(root, world=sw.World(1, 2)))


def test_a_short_batch_on_one_device(root: str) -> None:
    assert [len(batch["id"]) for batch in swj.arrays(loader(root, last="short"))] == [16, 16, 8]


def test_batches_that_devices_cannot_divide(root: str) -> None:
    code = (
        "import sys, shardwright as sw, shardwright.jax as swj\n"
        "train = sw.open_dataset(sys.argv[1], columns=['id'])\n"
        "for options in ({'batch_size': 15, 'last': 'drop'}, {'batch_size': 16}):\n"
        "    try:\n"
        "        swj.arrays(train.loader(world=swj.world(), **options))\n"
        "    except sw.errors.ConfigError as error:\n"
        "        print(error)\n"
    )
    (told,) = run([["-c", code, root]], {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    assert "batch_size 15 on 1 ranks" in told
    assert "choose a batch size that the devices divide" in told
    assert "last='short': the last batch of an epoch might not divide among the devices" in told
