"""What several groups share: one Spark session per run, and the samples that the project holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "data" / "samples"

# A test fails for what it checks, not for how busy the machine is: making the first text takes seconds on a new one.
settings.register_profile("shardwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shardwright")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local[2] session, started once."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--properties-file {ROOT / 'conf/spark/local.conf'} pyspark-shell"
    session = SparkSession.builder.master("local[2]").getOrCreate()
    yield session
    session.stop()
