"""Over two devices, of one process or of two, every sample is seen once per epoch, also when stopped and resumed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.processes import free_ports, run

SAMPLES = 145
LABELS = sum(range(SAMPLES))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("jax") / "d"
    schema = Schema(fields=(Field(name="label", dtype="int64"),))
    publish(root, {"train": {"label": range(SAMPLES)}}, schema, shards=5)
    return str(root)


def train(numbers: str, folder: Path, *arguments: str, processes: int = 1) -> list[dict]:
    command = ["-m", "tests.jax.train", numbers, str(folder), *arguments]
    if processes == 1:
        (told,) = run([command], {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
        return [json.loads(told)]
    (port,) = free_ports(1)
    own = [[*command, f"--processes={processes}", f"--process={number}", f"--port={port}"] for number in range(processes)]
    return [json.loads(told.splitlines()[-1]) for told in run(own)]  # before that Gloo says who is connected


def seen(folder: Path) -> dict[int, Counter[str]]:
    epochs: dict[int, Counter[str]] = {}
    for file in folder.glob("seen-*"):
        for line in file.read_text().splitlines():
            epoch, key = line.split()
            epochs.setdefault(int(epoch), Counter())[key] += 1
    return epochs


@pytest.mark.parametrize("processes, steps", [(1, 10), (2, 5)])
def test_every_sample_once(numbers: str, tmp_path: Path, processes: int, steps: int) -> None:
    """`last="pad"`: not one sample is left out, repeated ones are flagged. `steps` is what an epoch has."""
    stop = steps + 2
    told = train(numbers, tmp_path, f"--stop-after={stop}", processes=processes)
    assert {(one["steps"], one["devices"]) for one in told} == {(stop, 2)}
    assert {epoch: keys.total() for epoch, keys in seen(tmp_path).items()} == {0: SAMPLES, 1: 2 * 16 * processes}
    told += train(numbers, tmp_path, "--epochs=3", processes=processes)
    after = seen(tmp_path)
    assert {epoch: len(keys) for epoch, keys in after.items()} == dict.fromkeys(range(3), SAMPLES)
    assert all(set(keys.values()) == {1} for keys in after.values())
    assert sum(one["sum"] for one in told) == 3 * LABELS * processes, "every process sums over the whole global batch"
    states = {path.read_text() for path in tmp_path.glob("state-*")}
    assert len(states) == 1
