"""Must show: counts, balance, exact statistics, and the same bytes however Spark cuts the work."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from shardwright.format.manifest import Standardisation
from shardwright.schema import Field, Schema
from shardwright.spark import prepare, write_dataset
from shardwright.stages.publish import Published
from shardwright.stages.shard import ShardOptions
from shardwright.stages.standardise import StandardiseOptions
from tests.conftest import ROOT
from tests.spark.mnist import MNIST, config, digits, tree, write_digits

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return prepare(config(MNIST, tmp_path_factory.mktemp("published") / "mnist"), quiet=True)


def test_counts_and_balance(published: Published) -> None:
    counts = published.manifest.lineage.counts
    assert counts.read == 2000
    assert counts.read == counts.published + counts.quarantined + counts.dropped
    for split in published.manifest.content.splits.values():
        assert len({shard.samples for shard in split.shards}) == 1


def _values(published: Published, split: str) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.read_table(f"{published.url}/{published.version}/{split}")
    cells = np.stack([np.frombuffer(cell.as_py()[-784:], np.uint8) for cell in table["image"]])
    return cells.reshape(-1, 28, 28), table["label"].to_numpy()


def test_every_sample_arrives_once(published: Published) -> None:
    images, labels = digits()
    expected = sorted(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))
    found = []
    for split in published.manifest.content.splits:
        pictures, numbers = _values(published, split)
        found += [bytes([label]) + image.tobytes() for image, label in zip(pictures, numbers, strict=True)]
    assert sorted(found) == expected


def test_mean_and_std_are_correctly_rounded(published: Published) -> None:
    images, _ = _values(published, "train")
    values = [int(value) for value in images.ravel()]
    mean = Fraction(sum(values), len(values))
    variance = Fraction(sum(value * value for value in values), len(values)) - mean * mean
    transform = published.manifest.content.transforms[0]
    assert isinstance(transform, Standardisation)
    assert transform.mean == (float(mean),)
    (std,) = transform.std
    below, above = Fraction(math.nextafter(std, 0)), Fraction(math.nextafter(std, math.inf))
    assert ((below + Fraction(std)) / 2) ** 2 <= variance <= ((above + Fraction(std)) / 2) ** 2


@pytest.mark.parametrize("task_bytes", [2**30, 800_000, 225_000, 24_700])
def test_same_bytes_for_any_number_of_tasks(published: Published, tmp_path: Path, task_bytes: int) -> None:
    source = write_digits(tmp_path / "in", [np.arange(2000)], ["all"])
    read = {"format": "idx", "path": str(source), "task_bytes": task_bytes}
    again = prepare(config(source, tmp_path / "mnist", read=read), quiet=True)
    assert again.manifest.content_id == published.manifest.content_id
    assert tree(tmp_path / "mnist") == tree(Path(published.url))


def test_same_bytes_for_shuffled_input_files(published: Published, tmp_path: Path) -> None:
    rows = np.array_split(np.random.default_rng(3).permutation(2000), 5)
    source = write_digits(tmp_path / "in", rows, ["d", "b", "e", "a", "c"])
    again = prepare(config(source, tmp_path / "mnist"), quiet=True)
    assert again.manifest.content_id == published.manifest.content_id
    assert tree(tmp_path / "mnist") == tree(Path(published.url))


@pytest.mark.parametrize("partitions", [1, 2, 7, 64])
def test_same_bits_for_any_partitioning_of_a_frame(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, partitions: int
) -> None:
    images, labels = digits()
    rows = [(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(28, 28)), Field(name="label", dtype="uint8")))
    frame = spark.createDataFrame(rows, "image binary, label int").repartition(partitions)
    written = write_dataset(
        frame, str(tmp_path / "mnist"), shards=4, schema=schema, standardise=StandardiseOptions(fields=("image",)), quiet=True
    )
    parts = tree(tmp_path / "mnist")
    digest = hashlib.sha256(b"".join(name.encode() + parts[name] for name in sorted(parts))).hexdigest()
    seen = tmp_path_factory.getbasetemp() / "frame.txt"  # what the first of these found; all others must agree
    found = f"{written.manifest.content_id} {digest}"
    if not seen.exists():
        seen.write_text(found)
    assert seen.read_text() == found


def test_command_one_on_one_core_gives_the_same_bytes(published: Published, tmp_path: Path) -> None:
    command = ["./spark-submit.sh", "--master", "local[1]", "jobs/prepare.py", "conf/datasets/mnist.toml"]
    command += ["--output", str(tmp_path / "mnist")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "mnist") == tree(Path(published.url))
    for told in (str(tmp_path / "mnist"), "4 shards of 451", "mean 33.99", "std 79.31", "sw.open_dataset("):
        assert told in done.stdout, done.stdout
    again = subprocess.run(
        [*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["status"], found["version"], found["content_id"]) == (
        "unchanged", "v000001", published.manifest.content_id,
    )  # fmt: skip
    assert found["splits"]["train"]["samples"] == 1804


@pytest.mark.parametrize("remainder", ["drop", "pad", "spread"])
def test_remainder(tmp_path: Path, remainder: str) -> None:
    shard = {"count": 7, "remainder": remainder}
    result = prepare(config(MNIST, tmp_path / "mnist", shard=shard, split={}), quiet=True)
    split = result.manifest.content.splits["train"]
    counts = result.manifest.lineage.counts
    sizes = [shard.samples for shard in split.shards]
    assert 2000 % 7 == 5
    expected = {"drop": [285] * 7, "pad": [286] * 7, "spread": [286] * 5 + [285] * 2}
    assert sizes == expected[remainder]
    assert (counts.dropped, counts.padded) == {"drop": (5, 0), "pad": (0, 2), "spread": (0, 0)}[remainder]
    statistics = result.manifest.content.statistics.fields["image"]
    assert statistics.count == 2000 - counts.dropped  # of what is published, without pads


def test_pads_are_the_first_samples_by_place_at_the_end_of_the_last_shards(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    prepare(config(MNIST, tmp_path / "mnist", shard={"count": 7, "remainder": "pad"}, split={}), quiet=True)
    shards = [pq.read_table(path) for path in sorted((tmp_path / "mnist").glob("v000001/train/*/part-*"))]
    assert [sum(shard["_pad"].to_pylist()) for shard in shards] == [0] * 5 + [1] * 2
    first = shards[0]
    for number, shard in enumerate(shards[5:]):
        assert shard["_pad"][-1].as_py()
        assert shard["_key"][-1] == first["_key"][number]
        assert shard["image"][-1] == first["image"][number]


def test_equal_samples_are_all_kept(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(bytes([value % 10]) * 4, value % 10) for value in range(200)]
    schema = Schema(fields=(Field(name="x", dtype="uint8", shape=(4,)), Field(name="y", dtype="int32")))
    trees = []
    for number, partitions in enumerate((1, 5)):
        frame = spark.createDataFrame(rows, "x binary, y int").repartition(partitions)
        result = write_dataset(frame, str(tmp_path / str(number)), shards=ShardOptions(count=3), schema=schema, quiet=True)
        assert result.manifest.lineage.counts.published == 198
        trees.append(tree(tmp_path / str(number)))
    assert trees[0] == trees[1]


def test_same_bytes_where_spark_looks_for_the_places(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardwright.spark.ranks.ROWS_PER_TASK", 300)  # as in a large dataset: seven tasks share the index
    source = write_digits(tmp_path / "in", np.array_split(np.arange(2000), 3), "abc")
    again = prepare(config(source, tmp_path / "mnist"), quiet=True)
    assert again.manifest.content_id == published.manifest.content_id
    assert tree(tmp_path / "mnist") == tree(Path(published.url))


@pytest.mark.parametrize("rows_per_task", [50, 2**21])
def test_equal_samples_are_found_by_spark_too(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_task: int
) -> None:
    monkeypatch.setattr("shardwright.spark.ranks.ROWS_PER_TASK", rows_per_task)
    frame = spark.createDataFrame([(value % 50,) for value in range(200)], "x int").repartition(3)
    result = write_dataset(frame, str(tmp_path / "out"), shards=4, quiet=True)
    labels = result.manifest.content.statistics.fields["x"].labels
    assert labels is not None
    assert labels.counts == (4,) * 50


def test_several_parts_and_row_groups(tmp_path: Path) -> None:
    shard = {"count": 4, "part_bytes": 150_000, "row_group_bytes": 40_000}
    result = prepare(config(MNIST, tmp_path / "mnist", shard=shard), quiet=True)
    import pyarrow.parquet as pq

    index = pq.read_table(tmp_path / "mnist/v000001/_index.parquet")
    train = index.filter(np.array(index["split"].to_pylist()) == "train")
    assert result.manifest.content.splits["train"].shards[0].parts == 3
    assert train.num_rows > 4 * 3 * 3
    for shard_number in range(4):
        own = train.filter(np.array(train["shard"].to_pylist()) == shard_number)
        firsts = own["first_sample"].to_pylist()
        assert firsts == np.cumsum([0, *own["samples"].to_pylist()])[:-1].tolist()
    images, _ = digits()
    pictures = np.concatenate([_values(result, split)[0] for split in ("train", "validation")])
    assert sorted(map(bytes, pictures)) == sorted(map(bytes, images))
