"""`jobs/verify.py`: the same problems as `shardwright verify`, found on Spark, and statistics recomputed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.verify import app
from shardwright.format.manifest import Manifest, Statistics
from shardwright.reader.verify import verify as verify_here
from shardwright.spark.verify import verify
from shardwright.stages.standardise import collector
from tests.datasets import DIGITS, digits, publish


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish(tmp_path / "d", {"train": digits(61), "test": digits(9, seed=1)}, shards=4, remainder="pad")
    return tmp_path / "d"


def reseal(root: Path, **changes: object) -> None:
    """Publish the manifest anew with other statistics of `label`, and right hashes."""
    path = root / "v000001/_manifest.json"
    manifest = Manifest.parse(path.read_bytes(), where="here")
    statistics = manifest.content.statistics
    label = statistics.fields["label"].model_copy(update=changes)
    other = Statistics(split=statistics.split, fields={**statistics.fields, "label": label})
    content = manifest.content.model_copy(update={"statistics": other})
    sealed = Manifest.seal(content, manifest.lineage, manifest.provenance)
    path.write_bytes(sealed.to_json())
    (root / "_LATEST").write_text(f'{{"version": "v000001", "content_id": "{sealed.content_id}"}}')


def test_a_version_as_published(spark: SparkSession, root: Path) -> None:
    found = verify(str(root), quiet=True)
    assert (found.problems, found.statistics, found.samples) == ([], True, 64 + 12)
    assert found == verify_here(str(root), collector=collector)


def test_the_problems_are_those_of_the_verb(spark: SparkSession, root: Path) -> None:
    part = root / "v000001/train/shard=00001/part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[300] ^= 1
    part.write_bytes(data)
    (root / "v000001/test/shard=00002/_petastorm").unlink()
    (root / "v000001/notes.txt").touch()
    found = verify(str(root), quiet=True)
    assert found.problems == verify_here(str(root)).problems
    assert len(found.problems) == 3
    assert not found.statistics


def test_statistics_that_are_not_those_of_the_samples(spark: SparkSession, root: Path) -> None:
    assert DIGITS["label"].dtype == "int64"
    reseal(root, mean=(30.5,), labels=None)
    assert verify_here(str(root)).problems == []
    expected = "statistics of 'label' (split 'test'): mean (30.5,) in the manifest, (4.0,) recomputed; labels differs"
    assert verify(str(root), quiet=True).problems == [expected]
    job = CliRunner().invoke(app, [str(root), "--quiet", "--json"])
    assert job.exit_code == 1
    assert expected.replace('"', '\\"') in job.stdout
