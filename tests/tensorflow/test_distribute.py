"""Must show: under tf.distribute every sample is seen once per epoch, also when stopped in the middle and resumed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from shardwright.schema import Field, Schema
from tests.datasets import publish
from tests.processes import free_ports, run

SAMPLES = 145  # 9 batches of 16 and one sample: one of two replicas gets none


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("distribute") / "d"
    schema = Schema(fields=(Field(name="label", dtype="int32"),))
    publish(root, {"train": {"label": range(SAMPLES)}}, schema, shards=5)
    return str(root)


def train(numbers: str, way: str, folder: Path, *arguments: str, workers: int = 1) -> list[dict]:
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(workers)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(workers)]
    environments = [{"TF_CONFIG": json.dumps(task)} if workers > 1 else {} for task in tasks]
    told = run([["-m", "tests.tensorflow.train", numbers, way, str(folder), *arguments]] * workers, *environments)
    return [json.loads(text) for text in told]


def seen(folder: Path) -> dict[int, Counter[str]]:
    """How often each sample was seen, by epoch, by all replicas and workers."""
    epochs: dict[int, Counter[str]] = {}
    for file in folder.glob("seen*"):
        for line in file.read_text().splitlines():
            epoch, key = line.split()
            epochs.setdefault(int(epoch), Counter())[key] += 1
    return epochs


@pytest.mark.parametrize("way", ["distribute", "function"])
def test_two_replicas_see_every_sample_once(numbers: str, way: str, tmp_path: Path) -> None:
    assert train(numbers, way, tmp_path, "--stop-after", "14") == [{"steps": 14, "replicas": 2}]
    before = seen(tmp_path)
    assert {epoch: keys.total() for epoch, keys in before.items()} == {0: SAMPLES, 1: 4 * 16}
    assert train(numbers, way, tmp_path, "--epochs", "3") == [{"steps": 6 + 10, "replicas": 2}]
    after = seen(tmp_path)
    assert {epoch: len(keys) for epoch, keys in after.items()} == {0: SAMPLES, 1: SAMPLES, 2: SAMPLES}
    assert all(set(keys.values()) == {1} for keys in after.values())


def test_two_workers_see_every_sample_once(numbers: str, tmp_path: Path) -> None:
    """At most world size - 1 samples of an epoch are left out; the state of one worker is that of the other."""
    stopped = {"steps": 7, "replicas": 2}
    assert train(numbers, "workers", tmp_path, "--stop-after", "7", workers=2) == [stopped, stopped]
    assert {epoch: keys.total() for epoch, keys in seen(tmp_path).items()} == {0: SAMPLES - 1, 1: 2 * 2 * 16}
    ended = {"steps": 3 + 5, "replicas": 2}
    assert train(numbers, "workers", tmp_path, "--epochs", "3", workers=2) == [ended, ended]
    after = seen(tmp_path)
    assert {epoch: len(keys) for epoch, keys in after.items()} == dict.fromkeys(range(3), SAMPLES - 1)
    assert all(set(keys.values()) == {1} for keys in after.values())
    assert len(set().union(*after.values())) == SAMPLES
    states = [json.loads(path.read_text()) for path in tmp_path.glob("state*")]
    assert len(states) == 2
    assert states[0] == states[1]
