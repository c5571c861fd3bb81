"""`shardwright diff`: what it says of two versions whose differences are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shardwright.cli import main
from shardwright.schema import Field, Schema
from tests.datasets import digits, publish


@pytest.fixture
def diff(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["diff", *map(str, arguments)])
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    return call


def test_the_same_content(diff, tmp_path):
    for name in "ab":
        publish(tmp_path / name, {"train": digits(16)}, shards=2)
    code, text, _ = diff(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "same content: " in text


def test_all_that_is_different(diff, tmp_path):
    """Samples of tests.datasets have the key of '<split>/<number>'."""
    first, second = digits(40), digits(30)
    second["image"] = second["image"].copy()
    second["image"][7, 0, 0] ^= 1
    publish(tmp_path / "d", {"train": first}, shards=4)
    wider = Schema(
        fields=(
            Field(name="image", dtype="uint8", shape=(8, 8)), Field(name="label", dtype="int64"),
            Field(name="weight", dtype="float32"),
        )
    )  # fmt: skip
    later = {**second, "weight": np.zeros(30)}
    other = {**digits(8), "weight": np.zeros(8)}
    publish(tmp_path / "d", {"train": later, "test": other}, wider, shards=3, remainder="pad", version="v000002")
    code, text, _ = diff(tmp_path / "d", "--from", "v000001", "--values")
    assert code == 1
    for line in (
        "schema:", "  weight: none -> name weight, dtype float32", "samples per split:", "  train: 40 -> 30",
        "  test: none -> 8", "samples: 40 -> 38: 8 added, 10 removed, 0 in another split, 1 with other values",
        "statistics of label:", "  remainder: drop -> pad",
    ):  # fmt: skip
        assert line in text.splitlines(), text
    code, text, _ = diff(tmp_path / "d", "--from", "v000001", "--json")
    found = json.loads(text)
    assert (code, found["same"], found["samples"]["changed"]) == (1, False, None)
    assert found["splits"] == {"test": [None, 8], "train": [40, 30]}


def test_samples_in_another_split(diff, tmp_path, monkeypatch):
    import tests.datasets as datasets

    publish(tmp_path / "a", {"train": digits(24), "test": digits(8)}, shards=2)
    as_train = datasets.keys_of
    monkeypatch.setattr(datasets, "keys_of", lambda split, rows: as_train({"train": "test", "test": "train"}[split], rows))
    publish(tmp_path / "b", {"train": digits(24), "test": digits(8)}, shards=2)
    _, text, _ = diff(tmp_path / "a", tmp_path / "b")
    assert "samples: 32 -> 32: 16 added, 16 removed, 16 in another split, values not compared (--values: " in text


def test_one_version_alone(diff, tmp_path):
    publish(tmp_path / "d", {"train": digits(16)}, shards=2)
    code, _, err = diff(tmp_path / "d")
    assert code == 2
    assert "expected two datasets, or --from and --to" in err


def test_nothing_in_common(diff, tmp_path):
    publish(tmp_path / "a", {"train": digits(16)}, shards=2)
    publish(tmp_path / "b", {"test": {"text": ["a"] * 8}}, Schema(fields=(Field(name="text", dtype="string"),)), shards=2)
    code, text, _ = diff(tmp_path / "a", tmp_path / "b", "--values")
    assert code == 1
    for line in (
        "  text: none -> name text, dtype string", "  test: none -> 8", "  train: 16 -> none",
        ("samples: 16 -> 8: 8 added, 16 removed, 0 in another split, values not compared "
        "(--values: those of fields that both have)"),
    ):  # fmt: skip
        assert line in text.splitlines(), text
