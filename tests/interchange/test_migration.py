"""`jobs/migrate.py` on what the libraries of WebDataset and MDS wrote: every sample, as the libraries read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright.cli.legacy import examine
from shardwright.sources import open_source
from shardwright.spark.migrate import Migrated, migrate, migration
from tests.interchange import test_mds, test_webdataset
from tests.interchange.library import ask, good_rows, plain_row


@pytest.fixture(autouse=True)
def _session(spark: SparkSession) -> None:
    """Jobs run in the session of all tests."""


def run(source: Path, output: Path, *settings: str) -> Migrated:
    return migrate(migration(str(source), str(output), shards=3, settings=settings), quiet=True)


def check(migrated: Migrated, expected: list[dict[str, Any]], key: str) -> None:
    """The samples of a version, pictures as their bytes, beside those of the source."""
    published = migrated.published
    dataset = sw.open_dataset(published.url)
    wanted = sorted((plain_row(row) for row in expected), key=lambda row: str(row[key]))
    names = dataset.schema.names
    batch = dataset.reading(*names, encoded=True).take(range(len(dataset)))
    found = [plain_row({name: batch[name][row] for name in names}) for row in range(len(dataset))]
    assert sorted(found, key=lambda row: str(row[key])) == wanted
    counts = published.manifest.lineage.counts
    assert counts.read == counts.published == len(expected)
    assert set(migrated.checksums) == set(names)
    assert [shard.samples for shard in published.manifest.content.splits["train"].shards] == sizes(len(expected))


def sizes(samples: int) -> list[int]:
    """Of three shards."""
    return [len(range(shard, samples, 3)) for shard in range(3)]


def test_tars_of_webdataset(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ask(test_webdataset.ENVIRONMENT, test_webdataset.WRITE, tmp_path / "in")
    fields = {"jpg": {"dtype": "bytes"}}  # they are no whole pictures
    rename = {"key": "__key__", "seg": "seg.npy", "score": "score.txt"}
    assert examine(str(tmp_path / "in")).kind == "webdataset"
    settings = ['read.fields.jpg.dtype="bytes"', *(f'read.rename.{new}="{old}"' for new, old in rename.items())]
    migrated = run(tmp_path / "in", tmp_path / "out", *settings)
    expected = list(good_rows(open_source("webdataset", tmp_path / "in", rename=rename, fields=fields)))
    assert len(expected) == 10
    check(migrated, expected, "key")


@pytest.mark.parametrize("compression", ["", "zstd"])
def test_shards_of_mds(compression: str, tmp_path: Path) -> None:
    ask(test_mds.ENVIRONMENT, test_mds.WRITE, tmp_path / "in", compression)
    found = examine(str(tmp_path / "in"))
    assert (found.kind, found.rows, found.healthy) == ("mds", 12, True)
    migrated = run(tmp_path / "in", tmp_path / "out")
    check(migrated, list(good_rows(open_source("mds", tmp_path / "in"))), "an_int")
