"""v1/ was published once by the whole pipeline. The reader of today has to read it, and the formulas have to explain it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest

import shardwright as sw
from shardwright.order import Shuffle
from shardwright.reader.verify import verify
from tests.golden import documented

HERE = Path(__file__).parent
V1 = HERE / "v1"
CONTENT_ID = "535b02845c9bfd41c29fa5cd7ed493da11b7007052796456dd8620e6f390dfae"
SAMPLES: list[dict[str, Any]] = json.loads((HERE / "samples.json").read_text(encoding="utf-8"))
BY_ID = {sample["id"]: sample for sample in SAMPLES}
ORDERS: dict[str, list[list[int]]] = json.loads((HERE / "orders.json").read_text())
SPLITS = {"train": [9, 9], "validation": [2, 2]}


@pytest.fixture(params=sorted(SPLITS))
def split(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ids(split: str) -> list[int]:
    return [int(sample["id"]) for sample in sw.open_dataset(str(V1), split=split, columns=["id"])]


def test_it_is_what_was_published() -> None:
    assert sw.open_dataset(str(V1), split="train").manifest.content_id == CONTENT_ID
    report = verify(str(V1))
    assert not report.problems
    assert (report.files, report.samples) == (22, 22)


def test_the_reader_gives_every_value(split: str) -> None:
    for sample in sw.open_dataset(str(V1), split=split):
        expected = BY_ID[int(sample["id"])]
        assert set(sample) == set(expected)
        wrong = [name for name in expected if not _same(name, sample[name], expected[name])]
        assert not wrong, f"{wrong} of sample {sample['id']}"


def test_the_reader_finds_values_by_ranges_too(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(V1), "/golden", recursive=True)
    try:
        far, near = (sw.open_dataset(url, split="train") for url in ("memory://golden", str(V1)))
        for one, other in zip(far, near, strict=True):
            np.testing.assert_equal(one, other)
    finally:
        memory.rm("/golden", recursive=True)


def test_a_moved_version_reads_the_same(tmp_path: Path, split: str) -> None:
    shutil.copytree(V1, tmp_path / "elsewhere")
    assert [int(s["id"]) for s in sw.open_dataset(str(tmp_path / "elsewhere"), split=split)] == ids(split)


def test_keys_splits_and_places_follow_from_the_formulas(split: str) -> None:
    """Which sample lies where, from the ids alone: key of `id`, split by seed 7, places by seed 11, two shards, padded."""
    keys = {i: documented.sample_key(documented.canonical_bytes("int64", (), i)) for i in BY_ID}
    fractions = {"train": 0.75, "validation": 0.25}
    mine = [i for i, key in keys.items() if documented.split_of(fractions, 7, key) == split]
    placed = sorted(mine, key=lambda i: documented.place_key(11, keys[i]))
    assert len(placed) % 2 == 1
    assert ids(split) == [*placed, placed[0]]
    stored = sw.open_dataset(str(V1), split=split, columns=["id", "_key", "_pad"])
    assert [sample["_key"].tobytes() for sample in stored] == [keys[int(sample["id"])] for sample in stored]
    assert [bool(sample["_pad"]) for sample in stored] == [False] * len(placed) + [True]


@pytest.mark.parametrize("shuffle", ["none", "window", "global"])
def test_orders(shuffle: Shuffle, split: str) -> None:
    """Each list is the ids of one epoch, for seed 5; a change breaks every checkpoint."""
    for epoch, expected in enumerate(ORDERS[f"{split} {shuffle}"]):
        dataset = sw.open_dataset(str(V1), split=split, columns=["id"])
        loader = dataset.loader(batch_size=3, seed=5, shuffle=shuffle)
        loader.load_state_dict(loader.state_at(0, epoch=epoch))
        assert [int(i) for batch in loader for i in batch["id"]] == expected
        order = documented.epoch_order(CONTENT_ID, 5, epoch, shuffle, SPLITS[split], block_samples=2, window_blocks=2)
        assert [ids(split)[shard * SPLITS[split][0] + number] for shard, number in order] == expected


def test_stock_names_and_types(split: str) -> None:
    """What other readers see: the columns of the parts, and checksums in the form that sha256sum takes."""
    types = {
        "id": "int64", "image": "fixed_size_binary[164]", "picture": "binary", "label": "int16", "score": "float",
        "half": "float", "vector": "fixed_size_binary[8]", "track": "binary", "text": "string", "blob": "binary",
        "flag": "bool", "taken": "timestamp[us]", "wide": "uint64", "_key": "fixed_size_binary[16]", "_pad": "bool",
    }  # fmt: skip
    for shard in sorted((V1 / "v000001" / split).glob("shard=*")):
        for part in sorted(shard.glob("part-*.parquet")):
            assert {field.name: str(field.type) for field in pq.read_schema(part)} == types
        lines = [line.split("  ") for line in (shard / "_SHA256SUMS").read_text().splitlines()]
        assert {name for _, name in lines} == {path.name for path in shard.iterdir()} - {"_SHA256SUMS"}
        for digest, name in lines:
            assert hashlib.sha256((shard / name).read_bytes()).hexdigest() == digest


def _same(name: str, found: Any, expected: Any) -> bool:
    if expected is None:
        return found is None
    if name == "picture":
        return np.array_equal(found, imagecodecs.png_decode(bytes.fromhex(expected)))
    if name == "blob":
        return bool(found == bytes.fromhex(expected))
    if name == "taken":
        return bool(found == np.datetime64(expected, "us"))
    if name in ("image", "vector", "track"):
        dtype, shape = {"image": ("uint8", (3, 4, 3)), "vector": ("float32", (2,)), "track": ("float32", (-1, 2))}[name]
        wanted = np.array(expected, dtype).reshape(shape)
        return found.dtype == wanted.dtype and np.array_equal(found, wanted)
    return bool(found == expected)
