"""`jobs/reshard.py`: other numbers of shards, filters and merges of published samples, which stay what they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.reshard import app
from shardwright.config import Config
from shardwright.errors import BalanceError, ConfigError, DatasetConflictError, SchemaError
from shardwright.format.manifest import Manifest, Standardisation
from shardwright.reader import open_dataset
from shardwright.reader.verify import verify
from shardwright.spark import prepare
from shardwright.spark.reshard import ReshardOptions, open_reshard, reshard
from shardwright.stages.publish import Published
from shardwright.stages.standardise import collector
from tests.datasets import digits, publish
from tests.spark.mnist import config, tree, write_digits

SPREAD = {"count": 4, "remainder": "spread"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("reshard") / "in", np.array_split(np.arange(601), 3), "abc")


@pytest.fixture(scope="module")
def prepared(spark: SparkSession, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "mnist"
    prepare(small(source, out), quiet=True)
    return out


def small(source: Path, out: Path, **tables: Any) -> Config:
    """Several parts a shard, and several row groups a part."""
    shard = {**SPREAD, "part_bytes": 50_000, "row_group_bytes": 10_000, "block_bytes": 5_000, "window_blocks": 5}
    return config(source, out, **{"shard": shard, **tables})


def cut(source: Path | list[Path], output: Path, shards: int, **options: Any) -> Published:
    urls = [str(path) for path in (source if isinstance(source, list) else [source])]
    work = open_reshard(urls, ReshardOptions(shards=shards, **options))
    done = reshard(work, str(output), quiet=True)
    assert verify(str(output), collector=collector).problems == []
    return done


def keys(url: Path, split: str = "train", version: str = "latest") -> list[bytes]:
    """The keys of real samples, in shard-major order."""
    padded = open_dataset(str(url), split=split, version=version).manifest.content.plan.remainder == "pad"
    dataset = open_dataset(str(url), split=split, version=version, columns=["_key", *(["_pad"] if padded else [])])
    batch = dataset.take(np.arange(len(dataset)))
    return [key.tobytes() for key in (batch["_key"][~batch["_pad"]] if padded else batch["_key"])]


def test_four_to_seven_to_four(prepared: Path, tmp_path: Path) -> None:
    """Must show: the same sequence of places, and the same content_id, to the byte."""
    first = Manifest.parse((prepared / "v000001/_manifest.json").read_bytes(), where="here")
    seven = cut(prepared, tmp_path / "seven", 7)
    assert seven.manifest.content.plan.shards == {"train": 7, "validation": 7}
    assert seven.manifest.content_id != first.content_id
    for split in ("train", "validation"):
        assert keys(tmp_path / "seven", split) == keys(prepared, split)
    assert seven.manifest.content.statistics == first.content.statistics
    (entry,) = seven.manifest.lineage.inputs
    assert (entry.path, entry.content_id) == (f"{prepared}/v000001", first.content_id)
    four = cut(tmp_path / "seven", tmp_path / "seven", 4)
    assert (four.version, four.manifest.lineage.parent) == ("v000002", "v000001")
    assert four.manifest.content == first.content
    assert four.manifest.content_id == first.content_id
    assert tree(tmp_path / "seven", "v000002") == tree(prepared)


def test_again_there_is_nothing_to_do(prepared: Path, tmp_path: Path) -> None:
    assert cut(prepared, tmp_path / "d", 3).new
    again = cut(prepared, tmp_path / "d", 3)
    assert (again.new, again.note) == (False, "nothing to do: same configuration, same inputs")
    with pytest.raises(DatasetConflictError, match="--new-version"):
        cut(prepared, tmp_path / "d", 2)


def test_drop_says_before_what_it_loses_and_counts_anew(prepared: Path, tmp_path: Path) -> None:
    work = open_reshard([str(prepared)], ReshardOptions(shards=5, remainder="drop"))
    samples = {split: len(keys(prepared, split)) for split in ("train", "validation")}
    lost = {split: count % 5 for split, count in samples.items()}
    assert all(lost.values())
    for split, count in samples.items():
        assert f"warning: {lost[split]} of the {count} samples of {split} will be lost (drop)" in work.notes()
    job = CliRunner().invoke(
        app, [str(prepared), "--output", str(tmp_path / "x"), "--shards", "5", "--remainder", "drop", "--dry-run"]
    )
    assert job.exit_code == 0
    assert f"warning: {lost['train']} of the {samples['train']} samples of train will be lost (drop)" in job.stdout
    assert not (tmp_path / "x").exists()
    done = cut(prepared, tmp_path / "d", 5, remainder="drop").manifest
    assert done.lineage.counts.dropped == sum(lost.values())
    assert keys(tmp_path / "d") == keys(prepared)[: -lost["train"]]
    labels = open_dataset(str(tmp_path / "d"), split="train").take(np.arange(samples["train"] - lost["train"]))["label"]
    statistics = done.content.statistics.fields["label"]
    assert statistics.count == len(labels)
    assert statistics.mean == (float(np.mean(labels)),)
    (transform,) = done.content.transforms
    assert isinstance(transform, Standardisation)
    assert transform.mean == done.content.statistics.fields["image"].mean


def test_a_filter_keeps_the_order_of_what_is_left(prepared: Path, tmp_path: Path) -> None:
    done = cut(prepared, tmp_path / "d", 3, where="label < 5", splits=["train"], remainder="pad")
    dataset = open_dataset(str(prepared), split="train", columns=["_key", "label"])
    expected = [row["_key"].tobytes() for row in dataset if row["label"] < 5]
    assert keys(tmp_path / "d") == expected
    assert list(done.manifest.content.splits) == ["train"]
    assert done.manifest.lineage.counts.filtered == len(dataset) - len(expected)


def test_merged_is_as_prepared_at_once(spark: SparkSession, source: Path, prepared: Path, tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        half = write_digits(tmp_path / f"in-{name}", [np.arange(601)[number::2]], name)
        prepare(small(half, tmp_path / name), quiet=True)
    merged = cut([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", 4)
    assert keys(tmp_path / "merged") == keys(prepared)
    assert merged.manifest.content_id == Manifest.parse((prepared / "v000001/_manifest.json").read_bytes(), where="").content_id
    assert [entry.path for entry in merged.manifest.lineage.inputs] == [f"{tmp_path}/a/v000001", f"{tmp_path}/b/v000001"]
    twice = cut([prepared, prepared], tmp_path / "twice", 4)
    assert twice.manifest.lineage.counts.published == 1202
    assert sorted(keys(tmp_path / "twice")) == sorted(2 * keys(prepared))


def test_another_seed_and_an_order(prepared: Path, tmp_path: Path) -> None:
    again = cut(prepared, tmp_path / "seed", 4, seed=5)
    assert again.manifest.content.plan.seed == 5
    assert keys(tmp_path / "seed") != keys(prepared)
    assert sorted(keys(tmp_path / "seed")) == sorted(keys(prepared))
    ordered = cut(prepared, tmp_path / "order", 2, order_by=("label",))
    labels = open_dataset(str(tmp_path / "order"), split="train")
    found = [int(row["label"]) for row in labels]
    assert found == sorted(found)
    assert (ordered.manifest.content.plan.order, ordered.manifest.content.plan.order_by) == ("keep", ("label",))


def test_what_was_encoded_at_write_stays(spark: SparkSession, source: Path, tmp_path: Path) -> None:
    """Transforms at write and lossy values are carried over byte for byte; what is known of them too."""
    tables = {
        "standardise": {"fields": ["image"], "at": "write", "dtype": "float32"},
        "compress": {"fields": {"image": {"codec": "int8"}, "label": "gzip"}},
    }
    first = prepare(small(source, tmp_path / "d", **tables), quiet=True).manifest
    seven = cut(tmp_path / "d", tmp_path / "seven", 7).manifest
    assert seven.content.transforms == first.content.transforms
    assert hashes(tmp_path / "seven") == hashes(tmp_path / "d")
    kept = seven.content.compression["image"]
    assert kept.max_error == first.content.compression["image"].max_error
    assert kept.rmse == first.content.compression["image"].rmse
    four = cut(tmp_path / "seven", tmp_path / "four", 4).manifest
    assert four.content.compression == first.content.compression
    assert four.content_id == first.content_id
    few = cut(tmp_path / "d", tmp_path / "few", 4, where="label == 3", splits=["train"]).manifest
    assert few.content.compression["image"].rmse is None
    assert few.content.compression["image"].raw_bytes == few.lineage.counts.published * 28 * 28 * 4
    with pytest.raises(ConfigError, match="what waits is encoded when it is published"):
        cut(tmp_path / "d", tmp_path / "x", 4, remainder="carry")


def hashes(url: Path) -> list[str]:
    return [hashlib.sha256(row["image"].tobytes()).hexdigest() for row in open_dataset(str(url), split="train")]


def test_samples_that_wait_are_taken_along(spark: SparkSession, source: Path, prepared: Path, tmp_path: Path) -> None:
    shard = {**small(source, tmp_path).shard.model_dump(), "count": 7, "remainder": "carry"}
    first = prepare(config(source, tmp_path / "d", shard=shard), quiet=True).manifest
    assert first.lineage.counts.carried
    cut(tmp_path / "d", tmp_path / "four", 4, remainder="spread")
    assert keys(tmp_path / "four") == keys(prepared)


def test_errors(spark: SparkSession, prepared: Path, tmp_path: Path) -> None:
    publish(tmp_path / "small", {"train": digits(16)}, shards=2)
    with pytest.raises(SchemaError, match=r"can't be merged: field 'image': shape \(28, 28\) and \(8, 8\)"):
        open_reshard([str(prepared), str(tmp_path / "small")], ReshardOptions(shards=2))
    with pytest.raises(BalanceError, match="'train' has 16 for 17"):
        open_reshard([str(tmp_path / "small")], ReshardOptions(shards=17)).notes()
    job = CliRunner().invoke(app, [str(prepared), "--output", str(tmp_path / "x"), "--shards", "2", "--where", "lable < 5"])
    assert "no field 'lable'; did you mean 'label'?" in str(job.exception)
