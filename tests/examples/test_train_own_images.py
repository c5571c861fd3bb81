"""A folder of pictures in folders of classes, prepared with the configuration that the example names."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from pyspark.sql import SparkSession

from shardwright.config import load_config
from shardwright.spark import prepare
from tests.conftest import ROOT
from tests.examples.conftest import accuracies, example
from tests.spark.mnist import digits as sample_digits


def test_ones_own_pictures(spark: SparkSession, tmp_path: Path) -> None:
    """Noughts, ones and sevens in colour, each picture of a size of its own."""
    for name in ("nought", "one", "seven"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    images, labels = sample_digits()
    for number, (image, label) in enumerate(zip(images[:1500], labels, strict=False)):
        if shown := {0: "nought", 1: "one", 7: "seven"}.get(int(label)):
            grown = np.pad(image, ((number % 5, number % 3), (number % 2, number % 7)))
            picture = np.stack([grown, grown // 2, 255 - grown], axis=2)
            data = imagecodecs.jpeg_encode(picture, level=95) if number % 2 else imagecodecs.png_encode(picture)
            (tmp_path / "mine" / shown / f"{number}.{'jpg' if number % 2 else 'png'}").write_bytes(data)
    mine = load_config(
        ROOT / "conf/datasets/own_images.toml", [f"read.path={tmp_path / 'mine'}"], output=str(tmp_path / "prepared")
    )
    url = prepare(mine, quiet=True).url
    told = example("train_own_images.py", url, "--epochs", "6", "--size", "32")
    assert "pictures of 3 classes to train on" in told
    assert max(accuracies(told)) >= 95, told
