"""Petastorm's datasets on HDFS: read by the drop-in, described, looked at and migrated there, as on a local disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardwright.cli.legacy import examine
from shardwright.petastorm import make_batch_reader, make_reader
from shardwright.petastorm.etl.dataset_metadata import get_schema_from_dataset_url, write_metadata
from shardwright.petastorm.files import open_files
from shardwright.spark.migrate import migrate, migration
from shardwright.storage import open_writable
from tests.cluster.hdfs import Hdfs
from tests.cluster.test_inputs import upload
from tests.petastorm.stored import DATA

NAMES = ("arrays", "partitioned", "scalars")


@pytest.fixture(scope="module")
def remote(hdfs: Hdfs) -> str:
    folder = hdfs.new_folder("petastorm")
    for name in NAMES:
        upload(DATA / name / "data", f"{folder}/{name}")
    return folder


def rows(url: str, **options: Any) -> list[dict[str, Any]]:
    with make_reader(url, **options) as reader:
        return [row._asdict() for row in reader]


def check_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize("pool", ["thread", "dummy"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows(name: str, pool: str, remote: str) -> None:
    options = {"seed": 7, "shuffle_row_groups": True, "reader_pool_type": pool}
    check_same(rows(f"{remote}/{name}", **options), rows((DATA / name / "data").as_uri(), **options))


def test_by_webhdfs(remote: str, hdfs: Hdfs) -> None:
    there = f"{remote}/scalars".replace(hdfs.url, hdfs.webhdfs)
    check_same(rows(there), rows((DATA / "scalars/data").as_uri()))


def test_batches_of_files(remote: str) -> None:
    names = sorted(path.name for path in (DATA / "scalars/data").glob("*.parquet"))
    with make_batch_reader([f"{remote}/scalars/{name}" for name in names[:2]], schema_fields=["id"]) as reader:
        found = [int(one) for batch in reader for one in batch.id]
    with make_batch_reader([(DATA / "scalars/data" / name).as_uri() for name in names[:2]], schema_fields=["id"]) as reader:
        assert found == [int(one) for batch in reader for one in batch.id]


def test_the_state_goes_on(remote: str) -> None:
    url = f"{remote}/scalars"
    whole = rows(url)
    with make_reader(url) as reader:
        seen = [next(reader)._asdict() for _ in range(5)]
        state = reader.state_dict()
    with make_reader(url) as reader:
        reader.load_state_dict(state)
        check_same(seen + [row._asdict() for row in reader], whole)


def test_metadata_is_written_there(remote: str) -> None:
    url = f"{remote}/scalars"
    schema = get_schema_from_dataset_url(url)
    open_writable(url).delete("_common_metadata")
    write_metadata(open_files(url), schema)
    assert get_schema_from_dataset_url(url) == schema
    check_same(rows(url), rows((DATA / "scalars/data").as_uri()))


@pytest.mark.usefixtures("spark")
def test_looked_at_and_migrated(remote: str, hdfs: Hdfs, tmp_path: Path) -> None:
    found = examine(f"{remote}/arrays", ranks=2)
    assert (found.kind, found.rows, found.healthy) == ("petastorm", 12, True), found.findings
    there = migrate(migration(f"{remote}/arrays", hdfs.new_folder("migrated"), shards=2), quiet=True)
    here = migrate(migration(str(DATA / "arrays/data"), str(tmp_path / "out"), shards=2), quiet=True)
    assert there.checksums == here.checksums
    assert there.published.manifest.content_id == here.published.manifest.content_id
