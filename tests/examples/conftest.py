"""What several examples train on, prepared once; and how an example is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from shardwright.spark import prepare
from tests.conftest import ROOT
from tests.spark.mnist import MNIST, config

EXAMPLES = ROOT / "docs/examples"
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "1",
}  # fmt: skip


@pytest.fixture(scope="session")
def digits(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample digits as conf/datasets/mnist.toml prepares them."""
    return prepare(config(MNIST, tmp_path_factory.mktemp("example") / "mnist"), quiet=True).url


def example(name: str, *arguments: str | Path) -> str:
    """What the example printed, run with this interpreter."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def accuracies(told: str) -> list[float]:
    """Per cent on the validation split after each epoch, as the examples print it."""
    return [float(value) for value in re.findall(r"accuracy ([\d.]+)%", told)]
