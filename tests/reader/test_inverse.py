"""From stored and normalised values back to those that a team knows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import shardwright as sw
from shardwright.errors import SchemaError
from shardwright.format import layout
from shardwright.format.manifest import Manifest, MinMax, OneHot, Robust, Standardisation, Vocabulary
from shardwright.schema import Field, Schema
from tests.datasets import publish

SAMPLES = 24
generator = np.random.default_rng(2)
ORIGINAL: dict[str, Any] = {
    "image": generator.integers(0, 256, (SAMPLES, 4, 4, 3), np.uint8),
    "height": generator.normal(170, 9, SAMPLES),
    "count": [None if row % 5 == 0 else row * 10**6 for row in range(SAMPLES)],
    "year": generator.integers(1900, 2030, SAMPLES).astype("i2"),
    "colour": [["red", "green", "blue", "rare"][row % 4] for row in range(SAMPLES)],
    "grade": [[10, 20, 99][row % 3] for row in range(SAMPLES)],
    "shape": [["disc", "ring"][row % 2] for row in range(SAMPLES)],
}
WRITTEN = {
    "height": MinMax(field="height", at="write", original=Field(name="height", dtype="float64"), min=(140.0,), max=(200.0,)),
    "count": Robust(
        field="count", at="write", original=Field(name="count", dtype="int32", nullable=True), median=(11e6,), iqr=(5e6,)
    ),
    "colour": Vocabulary(
        field="colour", at="write", original=Field(name="colour", dtype="string"), values=("blue", "green", "red"), unknown=True
    ),
    "grade": Vocabulary(field="grade", at="write", original=Field(name="grade", dtype="int16"), values=(10, 20), unknown=True),
    "shape": OneHot(
        field="shape", at="write", original=Field(name="shape", dtype="string"), values=("disc", "ring"), unknown=False
    ),
}
SCHEMA = Schema(
    fields=(
        Field(name="image", dtype="uint8", shape=(4, 4, 3)),
        Field(name="height", dtype="float32"),
        Field(name="count", dtype="float64", nullable=True),
        Field(name="year", dtype="int16"),
        Field(name="colour", dtype="int32"),
        Field(name="grade", dtype="int32"),
        Field(name="shape", dtype="uint8", shape=(2,)),
    )
)


def stored():
    """What a pipeline makes of the original values."""
    return {
        "image": ORIGINAL["image"],
        "height": ((ORIGINAL["height"] - 140) / 60).astype("f4"),
        "count": [None if value is None else (value - 11e6) / 5e6 for value in ORIGINAL["count"]],
        "year": ORIGINAL["year"],
        "colour": [("blue", "green", "red").index(c) + 1 if c != "rare" else 0 for c in ORIGINAL["colour"]],
        "grade": [(10, 20).index(g) + 1 if g != 99 else 0 for g in ORIGINAL["grade"]],
        "shape": np.array([[s == "disc", s == "ring"] for s in ORIGINAL["shape"]], np.uint8),
    }


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    root = tmp_path_factory.mktemp("inverse") / "d"
    manifest = publish(root, {"train": stored()}, SCHEMA, shards=2, remainder="spread")
    at_read = Standardisation(field="image", mean=(100.0, 120.0, 130.0), std=(50.0, 60.0, 0.0))
    content = manifest.content.model_copy(update={"transforms": (*WRITTEN.values(), at_read)})
    sealed = Manifest.seal(content, manifest.lineage, manifest.provenance)
    (root / "v000001" / layout.MANIFEST).write_bytes(sealed.to_json())
    (root / layout.LATEST).write_text(json.dumps({"version": "v000001", "content_id": sealed.content_id}))
    return sw.open_dataset(str(root))


def check(batch, rows):
    assert batch["height"].dtype == np.float64
    np.testing.assert_allclose(batch["height"], ORIGINAL["height"][rows], rtol=1e-6)
    assert batch["count"].dtype == np.int32
    assert batch["count_mask"].tolist() == [ORIGINAL["count"][row] is None for row in rows]
    assert batch["count"].tolist() == [ORIGINAL["count"][row] or 0 for row in rows]
    assert batch["colour"].tolist() == [None if ORIGINAL["colour"][row] == "rare" else ORIGINAL["colour"][row] for row in rows]
    assert batch["grade"].dtype == np.int16
    assert batch["grade_mask"].tolist() == [ORIGINAL["grade"][row] == 99 for row in rows]
    assert batch["grade"][~batch["grade_mask"]].tolist() == [
        ORIGINAL["grade"][row] for row in rows if ORIGINAL["grade"][row] != 99
    ]
    assert batch["shape"].tolist() == [ORIGINAL["shape"][row] for row in rows]
    assert batch["image"].dtype == np.uint8
    assert np.array_equal(batch["image"], ORIGINAL["image"][rows])


def test_stored_values(train):
    before = train.take(range(SAMPLES))
    kept = {name: values.copy() for name, values in before.items()}
    batch = train.inverse(before)
    check(batch, list(range(SAMPLES)))
    assert all(np.array_equal(before[name], kept[name], equal_nan=name == "count") for name in kept), (
        "nothing is changed in place"
    )
    assert list(train.inverse({"year": before["year"]})) == ["year"]


@pytest.mark.parametrize("normalise", [True, ("image",), ("image", "year")])
def test_a_loader_knows_what_it_normalised(train, normalise):
    loader = train.loader(batch_size=7, world=sw.World(), normalise=normalise, shuffle="none")
    done = 0
    for batch in loader:
        rows = [position // 2 + 12 * (position % 2) for position in range(done, done + len(batch["year"]))]
        done += len(rows)
        assert batch["image"].dtype == np.float32
        for back in (loader.inverse(batch), train.inverse(batch, normalise=normalise)):
            check(back, rows)
            assert back["year"].dtype == np.int16
            assert np.array_equal(back["year"], ORIGINAL["year"][rows])


def test_what_cannot_be(train):
    with pytest.raises(SchemaError, match=r"field 'height' was transformed at write \(min_max\)"):
        train.loader(batch_size=4, world=sw.World(), normalise=("height",))
    with pytest.raises(SchemaError, match="no field 'hight'; did you mean 'height'"):
        train.inverse({}, normalise=("hight",))
    with pytest.raises(SchemaError, match="field 'colour': 7 is the number of no value"):
        train.inverse({"colour": np.array([7], np.int32)})
