"""`jobs/migrate.py`: what other systems wrote becomes a dataset without a sample lost or changed, and that is proved."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

import shardwright as sw
from jobs.migrate import app
from shardwright.errors import ConfigError, CorruptError, TooManyRejectedError
from shardwright.format.versions import read_index, read_manifest
from shardwright.spark.migrate import Migrated, check_migrated, migrate, migration
from shardwright.spark.pipeline import prepare
from shardwright.storage import open_storage
from tests.petastorm.conftest import Oracle, petastorm_oracle  # noqa: F401 - a fixture
from tests.petastorm.stored import DATA, DATASETS
from tests.petastorm.test_source import read


@pytest.fixture(autouse=True)
def _session(spark: SparkSession) -> None:
    """Jobs run in the session of all tests."""


def run(source: Path, output: Path, **options: Any) -> Migrated:
    return migrate(migration(str(source), str(output), **{"shards": 2, **options}), quiet=True)


def rows_of(url: str) -> list[str]:
    """Every sample of every split, as text that sorts."""
    _, manifest = read_manifest(open_storage(url))
    found = [dict(row) for split in manifest.content.splits for row in sw.open_dataset(url, split=split)]
    return sorted(map(_shown, found))


def _shown(row: dict[str, Any]) -> str:
    return repr({name: _plain(row[name]) for name in sorted(row)})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tolist())
    return (value.dtype.str, value.item()) if isinstance(value, np.generic) else value


@pytest.mark.parametrize("name", DATASETS)
def test_every_sample_of_petastorms_datasets(name: str, tmp_path: Path) -> None:
    migrated = run(DATA / name / "data", tmp_path / "out")
    expected, _ = read(DATA / name / "data")
    assert rows_of(migrated.published.url) == sorted(map(_shown, expected))
    lineage = migrated.published.manifest.lineage
    assert migrated.checksums == lineage.checksums
    assert set(lineage.checksums) == set(migrated.published.manifest.content.dataset_schema.names)
    assert len(set(lineage.checksums.values())) == len(lineage.checksums)
    assert any(entry.path.endswith("/_common_metadata") for entry in lineage.inputs)


def test_stock_petastorm_reads_the_same_before_and_after(tmp_path: Path, petastorm_oracle: Oracle) -> None:  # noqa: F811
    names = ["id", "vec", "mat", "ragged_z", "u16a", "boola", "f16a", "png16", "forder"]
    migrated = run(DATA / "arrays/data", tmp_path / "out")
    before = petastorm_oracle(DATA / "arrays/data", "reader", values=names)
    after = petastorm_oracle(tmp_path / "out" / migrated.published.version / "train", "reader", values=names)
    assert len(before) == 12
    assert [_shown(row) for row in after] == [_shown(row) for row in before]


def plain(folder: Path, rows: int = 50) -> Path:
    """Plain Parquet with all that makes it differ from what has to be declared elsewhere."""
    numbers = range(rows)
    table = pa.table(
        {
            "number": pa.array(numbers, pa.int64()),
            "maybe": pa.array([None if n % 7 == 3 else n / 4 for n in numbers], pa.float64()),
            "price": pa.array([Decimal(n).scaleb(-2) for n in numbers], pa.decimal128(12, 2)),
            "text": pa.array([f"text é {n % 5}" for n in numbers]),
            "nan": pa.array([float("nan")] * rows, pa.float32()),
            "vector": pa.array([[n, n + 1] for n in numbers], pa.list_(pa.int16(), 2)),
            "day": pa.array([n * 86_400_000 for n in numbers], pa.timestamp("ms")),
        }
    )
    for day in range(2):
        (folder / f"hour={day}").mkdir(parents=True)
        pq.write_table(table.slice(day * 30, 30), folder / f"hour={day}/p.parquet", row_group_size=7)
    return folder


def test_a_folder_of_plain_parquet(tmp_path: Path) -> None:
    migrated = run(plain(tmp_path / "in"), tmp_path / "out", split="train=0.8,test=0.2", shards=3)
    manifest = migrated.published.manifest
    assert sorted(manifest.content.splits) == ["test", "train"]
    assert manifest.lineage.counts.read == manifest.lineage.counts.published == 50
    fields = {field.name: (field.dtype, field.nullable) for field in manifest.content.dataset_schema}
    assert fields["price"] == ("string", False)
    assert fields["maybe"] == ("float64", True)
    assert fields["number"] == ("int64", False)
    rows = [row for split in manifest.content.splits for row in sw.open_dataset(migrated.published.url, split=split)]
    rows.sort(key=lambda row: row["number"])
    assert [row["price"] for row in rows] == [str(Decimal(n).scaleb(-2)) for n in range(50)]
    assert [row["maybe"] for row in rows] == [None if n % 7 == 3 else n / 4 for n in range(50)]
    assert [row["hour"] for row in rows] == [n // 30 for n in range(50)]


def test_the_order_of_a_field_is_kept(tmp_path: Path) -> None:
    migrated = run(DATA / "ngram/data", tmp_path / "out", order_by="timestamp_us", columns="timestamp_us,lane")
    dataset = sw.open_dataset(migrated.published.url)
    times = [row["timestamp_us"] for row in dataset]
    assert len(times) == 60
    assert times == sorted(times)
    assert dataset.schema.names == ("timestamp_us", "lane")


def test_splits_of_a_field(tmp_path: Path) -> None:
    migrated = run(DATA / "partitioned/data", tmp_path / "out", split="day", shards=1)
    assert len(migrated.published.manifest.content.splits) > 1


def test_repeated_samples_and_classes_cut_exactly(tmp_path: Path) -> None:
    table = pa.table({"label": [0, 1] * 10, "text": [f"twice {row // 4}" for row in range(20)]})
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/p.parquet", row_group_size=3)
    migrated = run(
        tmp_path / "in", tmp_path / "out", split="train=0.8,test=0.2", settings=["split.stratify=label", "read.task_bytes=1"]
    )
    splits = migrated.published.manifest.content.splits
    assert {name: split.samples for name, split in splits.items()} == {"train": 16, "test": 4}
    assert set(migrated.checksums) == {"label", "text"}


def test_the_same_again_is_compared_again(tmp_path: Path) -> None:
    first = run(DATA / "scalars/data", tmp_path / "out")
    again = run(DATA / "scalars/data", tmp_path / "out")
    assert not again.published.new
    assert again.checksums == first.checksums
    _damage(first)
    with pytest.raises(CorruptError, match=r"v000001: the values of .*id.* are not those of the input"):
        run(DATA / "scalars/data", tmp_path / "out")


def test_a_dataset_that_prepare_made_gets_its_checksums(tmp_path: Path) -> None:
    config = migration(str(DATA / "scalars/data"), str(tmp_path / "out"), shards=2)
    prepared = prepare(config, quiet=True)
    assert not prepared.manifest.lineage.checksums
    migrated = migrate(config, quiet=True)
    assert migrated.published.new
    assert migrated.published.manifest.content_id == prepared.manifest.content_id
    assert migrated.checksums


def _damage(migrated: Migrated) -> None:
    """Change one value of `id` where it lies in a part."""
    url, version = migrated.published.url, migrated.published.version
    storage = open_storage(url)
    index = read_index(storage, *read_manifest(storage, version)).to_pylist()
    extent = next(extent for extent in index[0]["extents"] if extent["field"] == "id")
    path = storage.local_path(f"{version}/{index[0]['part']}")
    assert path is not None
    data = bytearray(path.read_bytes())
    data[extent["offset"]] ^= 1
    path.write_bytes(data)


def test_a_value_that_changed_is_found(tmp_path: Path) -> None:
    migrated = run(DATA / "scalars/data", tmp_path / "out")
    assert check_migrated(migrated.published, quiet=True) == migrated.checksums
    _damage(migrated)
    with pytest.raises(CorruptError, match=r"the values of id are not those of the input"):
        check_migrated(migrated.published, quiet=True)


def test_a_sample_that_can_not_be_read_stops_it(tmp_path: Path) -> None:
    shutil.copytree(DATA / "arrays/data", tmp_path / "in")
    part = next((tmp_path / "in").glob("part-00000*"))
    table = pq.read_table(part)
    cells = table["vec"].to_pylist()
    cells[2] = cells[2][:-3]
    pq.write_table(table.set_column(table.schema.get_field_index("vec"), "vec", pa.array(cells, pa.binary())), part)
    with pytest.raises(TooManyRejectedError, match=r"1 of 12 samples were rejected, .*field 'vec'"):
        run(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").glob("v*"))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("shard.remainder=drop", "shard.remainder"),
        ("clean.max_rejected=0.1", "clean.max_rejected"),
        ("clean.non_finite=reject", "clean.non_finite"),
        ("standardise.fields=['f32']", "standardise"),
    ],
)
def test_what_would_change_or_lose_samples_is_refused(setting: str, told: str, tmp_path: Path) -> None:
    settings = [setting, *(["standardise.at=write"] if told == "standardise" else [])]
    with pytest.raises(ConfigError, match=f"{told}: a migration changes and loses nothing"):
        run(DATA / "scalars/data", tmp_path / "out", settings=settings)


def test_as_a_job(tmp_path: Path) -> None:
    source, output = str(DATA / "scalars/data"), str(tmp_path / "my set")
    planned = CliRunner().invoke(app, [source, "--output", output, "--shards", "2", "--dry-run"])
    assert planned.exit_code == 0
    assert '"format": "petastorm"' in planned.stdout
    assert '"name": "my-set"' in planned.stdout
    assert not (tmp_path / "my set").exists()
    done = CliRunner().invoke(app, [source, "--output", output, "--shards", "2", "--json", "--quiet"])
    found = json.loads(done.stdout)
    assert (found["status"], found["version"], len(found["checksums"])) == ("published", "v000001", 20)
    told = CliRunner().invoke(app, [source, "--output", output, "--shards", "2", "--quiet"])
    assert "nothing to do" in told.stdout
    assert f"  id     {found['checksums']['id']}" in told.stdout


def test_what_is_no_such_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a dataset of shardwright already"):
        run(Path(run(DATA / "ngram/data", tmp_path / "out").published.url.removeprefix("file://")), tmp_path / "other")
    with pytest.raises(ConfigError, match="--split a=b"):
        run(DATA / "ngram/data", tmp_path / "x", split="a=b")
