"""A table with a policy for each feature, prepared with the configuration that the example names."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

import shardwright as sw
from shardwright.config import load_config
from shardwright.spark import prepare
from tests.conftest import ROOT, SAMPLES
from tests.examples.conftest import accuracies, example


def test_wine(spark: SparkSession, tmp_path: Path) -> None:
    path = f"read.path={SAMPLES / 'wine/wine.csv'}"
    url = prepare(load_config(ROOT / "conf/datasets/wine.toml", [path], output=str(tmp_path / "wine")), quiet=True).url
    manifest = sw.open_dataset(url, split="train").manifest
    done = {transform.field: (transform.name, transform.at) for transform in manifest.content.transforms}
    assert (done["alcohol"], done["magnesium"], done["proline"]) == (
        ("standardise", "read"), ("robust", "read"), ("robust", "write"),
    )  # fmt: skip
    told = example("train_tabular.py", url)
    (found,) = accuracies(told)
    assert found >= 90, told
    assert "alcohol of those taken for another" in told
