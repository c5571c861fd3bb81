"""v2/ holds what format version 2 added: transforms and codecs at write, what they came to, shards by split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

import shardwright as sw
from shardwright.format.manifest import Affine, OneHot, Vocabulary
from shardwright.reader.verify import verify
from tests.golden import documented

HERE = Path(__file__).parent
V2 = HERE / "v2"
CONTENT_ID = "43dcce945126bae1323b86cbcb163534d48a5dfff6b1d983712fbb6aa5b7dff3"
BY_ID: dict[int, dict[str, Any]] = {
    sample["id"]: sample for sample in json.loads((HERE / "samples.json").read_text(encoding="utf-8"))
}
SHARDS = {"train": [9, 9], "validation": [3]}
MANIFEST = sw.open_dataset(str(V2), split="train").manifest
FITTED: dict[str, Any] = {transform.field: transform for transform in MANIFEST.content.transforms}


def published(split: str) -> list[dict[str, Any]]:
    return list(sw.open_dataset(str(V2), split=split))


def trained() -> list[dict[str, Any]]:
    """The samples that everything was fitted to: those of train, the repeated one once."""
    return [BY_ID[i] for i in {int(sample["id"]) for sample in published("train")}]


def test_it_is_what_was_published() -> None:
    assert (MANIFEST.format_version, MANIFEST.content_id) == (2, CONTENT_ID)
    report = verify(str(V2))
    assert not report.problems
    assert report.samples == sum(map(sum, SHARDS.values()))
    plan = MANIFEST.content.plan
    assert plan.shards == {"train": 2, "validation": 1}
    assert (plan.part_bytes, plan.row_group_bytes, plan.block_bytes) == (2600, 1100, 1100)


@pytest.mark.parametrize("split", SHARDS)
def test_places_and_orders_follow_from_the_formulas(split: str) -> None:
    keys = {i: documented.sample_key(documented.canonical_bytes("int64", (), i)) for i in BY_ID}
    mine = [i for i, key in keys.items() if documented.split_of({"train": 0.75, "validation": 0.25}, 7, key) == split]
    placed = sorted(mine, key=lambda i: documented.place_key(11, keys[i]))
    ids = [int(sample["id"]) for sample in published(split)]
    assert ids == (placed + placed[:1] if split == "train" else placed)
    loader = sw.open_dataset(str(V2), split=split, columns=["id"]).loader(batch_size=2, seed=5)
    order = documented.epoch_order(CONTENT_ID, 5, 0, "window", SHARDS[split], MANIFEST.content.plan.block_samples, 2)
    each = SHARDS[split][0]
    assert [int(i) for batch in loader for i in batch["id"]] == [ids[shard * each + number] for shard, number in order]


def test_parameters_are_those_of_the_training_samples() -> None:
    samples = trained()
    images = np.array([sample["image"] for sample in samples], float).reshape(-1, 3)
    scores = [sample["score"] for sample in samples if sample["score"] is not None]
    halves, wides = (np.array([sample[name] for sample in samples], float) for name in ("half", "wide"))
    expected = {
        "image": (images.mean(0), images.std(0)),
        "score": ([min(scores)], [max(scores) - min(scores)]),
        "half": ([np.median(halves)], [np.quantile(halves, 0.75) - np.quantile(halves, 0.25)]),
        "wide": ([wides.mean()], [wides.std()]),
    }
    assert {name for name, found in FITTED.items() if isinstance(found, Affine)} == set(expected)
    for name, parameters in expected.items():
        np.testing.assert_allclose(FITTED[name].affine(), parameters, rtol=1e-14)
    assert [FITTED[name].at for name in sorted(FITTED)] == ["read", *["write"] * 5]
    for name, kind, least in (("label", OneHot, 1), ("text", Vocabulary, 2)):
        values = [sample[name] for sample in samples if sample[name] is not None]
        ranked = sorted((-values.count(value), value) for value in set(values))
        wanted = [value for count, value in ranked if -count >= least]
        assert isinstance(FITTED[name], kind)
        assert list(FITTED[name].values) == wanted


@pytest.mark.parametrize("split", SHARDS)
def test_values_are_the_results_within_the_measured_error(split: str) -> None:
    compression = MANIFEST.content.compression
    codes, words = FITTED["label"].values, FITTED["text"].values
    for sample in published(split):
        wanted = BY_ID[int(sample["id"])]
        image = (np.array(wanted["image"], float).reshape(3, 4, 3) - FITTED["image"].mean) / FITTED["image"].std
        assert np.abs(sample["image"] - image).max() <= (compression["image"].max_error or 0) + 1e-6
        assert sample["picture"].tobytes() == imagecodecs.png_decode(bytes.fromhex(wanted["picture"])).tobytes()
        assert sample["vector"].tolist() == wanted["vector"]
        assert np.abs(sample["track"] - np.array(wanted["track"]).reshape(-1, 2)).max(initial=0) <= 0.01
        assert sample["label"].tolist() == [int(code == wanted["label"]) for code in codes]
        assert sample["text"] == (words.index(wanted["text"]) + 1 if wanted["text"] in words else 0)
        assert (sample["half"], bool(sample["flag"])) == (wanted["half"], wanted["flag"])
        assert sample["wide"] == np.float16((wanted["wide"] - FITTED["wide"].mean[0]) / FITTED["wide"].std[0])
        if wanted["score"] is None:
            assert sample["score"] is None
        else:
            low, high = FITTED["score"].min[0], FITTED["score"].max[0]
            assert sample["score"] == pytest.approx((wanted["score"] - low) / (high - low), rel=1e-12)


def test_the_original_values_come_back() -> None:
    dataset = sw.open_dataset(str(V2), split="train")
    batch = dataset.inverse(dataset.take(range(len(dataset))))
    wanted = [BY_ID[int(i)] for i in batch["id"]]
    assert batch["label"].tolist() == [sample["label"] for sample in wanted]
    assert batch["image"].dtype == np.uint8
    images = np.array([sample["image"] for sample in wanted]).reshape(-1, 3, 4, 3)
    assert np.abs(batch["image"].astype(int) - images).max() <= 1
    known = FITTED["text"].values
    assert list(batch["text"]) == [sample["text"] if sample["text"] in known else None for sample in wanted]


def test_codecs_and_what_they_came_to() -> None:
    schema, found = MANIFEST.content.dataset_schema, MANIFEST.content.compression
    codecs = {field.name: (field.codec.name, field.codec.configuration) for field in schema if field.codec}
    assert codecs == {
        "image": ("int8", {}), "picture": ("image", {"format": "png", "level": 6}), "label": ("npy", {}),
        "vector": ("bfloat16", {}), "track": ("zfp", {"tolerance": 0.01}),
    }  # fmt: skip
    assert [(name, each.codec, each.level) for name, each in sorted(found.items())] == [
        ("id", "zstd", "column"), ("image", "int8", "value"), ("picture", "png", "value"), ("track", "zfp", "value"),
        ("vector", "bfloat16", "value"),
    ]  # fmt: skip
    assert found["image"].raw_bytes == 21 * 36 * 4
    assert found["picture"].max_error is None
