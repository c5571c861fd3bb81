"""What is transformed and encoded at write: fitted to what is published, measured exactly, the same for any partitioning."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright.codecs import encode_npy
from shardwright.errors import CompressionError, ConfigError, InputError
from shardwright.format.manifest import MinMax, OneHot, Robust, Standardisation, Vocabulary
from shardwright.format.statistics import FieldSummary
from shardwright.reader.verify import verify
from shardwright.schema import Field, Schema
from shardwright.spark import write_dataset
from shardwright.stages.compress import CompressOptions
from shardwright.stages.publish import Published
from shardwright.stages.shard import ShardOptions
from shardwright.stages.split import SplitOptions
from shardwright.stages.standardise import StandardiseOptions
from tests.spark.mnist import tree

ROWS = 301
TABLE = Schema(
    fields=(
        Field(name="id", dtype="int64"),
        Field(name="age", dtype="uint8"),
        Field(name="income", dtype="float64", nullable=True),
        Field(name="vector", dtype="float32", shape=(2, 2, 3)),
        Field(name="track", dtype="int16", shape=(None, 2)),
        Field(name="height", dtype="float32"),
        Field(name="country", dtype="string", nullable=True),
        Field(name="city", dtype="string"),
        Field(name="kept", dtype="int32"),
    )
)
COLUMNS = "id long, age int, income double, vector binary, track binary, height float, country string, city string, kept int"
POLICIES = StandardiseOptions.model_validate(
    {
        "fields": ["vector"], "at": "write",
        "features": {
            "age": "robust",
            "income": {"method": "min_max", "dtype": "float64"},
            "track": {"method": "mean_std", "per": "field"},
            "height": {"method": "robust", "at": "read"},
            "country": {"method": "one_hot", "max_size": 3},
            "city": {"method": "vocabulary", "min_count": 2},
        },
    }
)  # fmt: skip


def rows() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(4)
    out = []
    for number in range(ROWS):
        vector = (rng.normal(3, 2, (2, 2, 3)) * [1, 10, 100]).astype("f4")
        track = rng.integers(-500, 500, (int(rng.integers(1, 4)), 2))
        country = None if number % 11 == 0 else str(rng.choice(["de", "at", "ch", "fr"], p=[0.4, 0.3, 0.2, 0.1]))
        city = f"rare{number}" if number % 17 == 0 else f"city{int(rng.integers(0, 9))}"
        income = None if number % 7 == 0 else float(rng.normal(4e4, 1e4))
        out.append(
            (number, int(rng.integers(0, 90)), income, vector.tobytes(), track.tolist(), float(np.float32(rng.normal(170, 9))),
             country, city, number * 3)
        )  # fmt: skip
    return out


ORIGINAL = {row[0]: dict(zip(TABLE.names, row, strict=True)) for row in rows()}


def publish(spark: SparkSession, path: Path, partitions: int, **changes: Any) -> Published:
    cells = [(*row[:4], encode_npy(np.array(row[4], "i2")), *row[5:]) for row in rows()]
    frame = spark.createDataFrame(cells, COLUMNS).repartition(partitions)
    options: dict[str, Any] = {
        "shards": ShardOptions(count=4, row_group_bytes=3000),
        "split": SplitOptions(fractions={"train": 0.8, "validation": 0.2}, seed=3),
        "standardise": POLICIES,
    }
    return write_dataset(frame, str(path), schema=TABLE, key=("id",), quiet=True, **(options | changes))


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(spark, tmp_path_factory.mktemp("table") / "one", 1)


@pytest.fixture(scope="module")
def stored(published: Published) -> dict[str, list[dict[str, Any]]]:
    return {split: list(sw.open_dataset(published.url, split=split)) for split in ("train", "validation")}


def of_train(stored: dict[str, list[dict[str, Any]]], name: str) -> list[Any]:
    return [ORIGINAL[int(sample["id"])][name] for sample in stored["train"]]


def test_another_partitioning_gives_the_same_bytes(
    published: Published, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardwright.spark.pipeline.FEW_TASKS", 3)  # as of many: tasks merge summaries first
    again = publish(spark, tmp_path / "five", 5)
    assert again.manifest.content_id == published.manifest.content_id
    assert tree(tmp_path / "five") == tree(Path(published.url))
    assert not verify(published.url).problems


def test_some_are_dropped_so_the_fit_has_a_cut_to_respect(published: Published) -> None:
    assert published.manifest.lineage.counts.dropped > 0


def test_parameters_are_those_of_the_published_training_samples(published: Published, stored: Any) -> None:
    fitted = {transform.field: transform for transform in published.manifest.content.transforms}
    assert list(fitted) == ["age", "city", "country", "height", "income", "track", "vector"]
    ages, heights = np.array(of_train(stored, "age")), np.array(of_train(stored, "height"))
    age, height = fitted["age"], fitted["height"]
    assert isinstance(age, Robust)
    assert (age.median, age.iqr) == ((np.median(ages),), (np.quantile(ages, 0.75) - np.quantile(ages, 0.25),))
    assert isinstance(height, Robust)
    assert height.at == "read"
    np.testing.assert_allclose(
        height.median + height.iqr, [np.median(heights), np.subtract(*np.quantile(heights, [0.75, 0.25]))]
    )
    incomes = [income for income in of_train(stored, "income") if income is not None]
    assert fitted["income"] == MinMax(
        field="income", at="write", original=TABLE["income"], min=(min(incomes),), max=(max(incomes),)
    )
    tracks = [value for track in of_train(stored, "track") for pair in track for value in pair]
    track = fitted["track"]
    assert isinstance(track, Standardisation)
    assert track.mean == (float(Fraction(sum(tracks), len(tracks))),)
    assert track.std == pytest.approx((np.std(tracks),), rel=1e-14)
    vectors = np.stack([np.frombuffer(vector, "f4").reshape(2, 2, 3) for vector in of_train(stored, "vector")]).astype("f8")
    vector = fitted["vector"]
    assert isinstance(vector, Standardisation)
    np.testing.assert_allclose((vector.mean, vector.std), (vectors.mean((0, 1, 2)), vectors.std((0, 1, 2))), rtol=1e-12)
    countries = Counter(country for country in of_train(stored, "country") if country is not None)
    cities = Counter(of_train(stored, "city"))
    country, city = fitted["country"], fitted["city"]
    assert isinstance(country, OneHot)
    assert isinstance(city, Vocabulary)
    assert list(country.values) == [c for c, _ in sorted(countries.items(), key=lambda item: (-item[1], item[0]))][:3]
    assert list(city.values) == [c for c, n in sorted(cities.items(), key=lambda item: (-item[1], item[0])) if n >= 2]


def test_every_split_holds_the_results(published: Published, stored: Any) -> None:
    schema = published.manifest.content.dataset_schema
    assert schema["age"] == Field(name="age", dtype="float32")
    assert schema["income"] == Field(name="income", dtype="float64", nullable=True)
    assert schema["country"] == Field(name="country", dtype="uint8", shape=(3,))
    assert schema["city"] == Field(name="city", dtype="int32")
    assert schema["track"] == Field(name="track", dtype="float32", shape=(None, 2))
    fitted: dict[str, Any] = {transform.field: transform for transform in published.manifest.content.transforms}
    for sample in stored["train"] + stored["validation"]:
        original = ORIGINAL[int(sample["id"])]
        assert sample["kept"] == original["kept"]
        assert sample["height"] == np.float32(original["height"])
        expected = {
            "age": (original["age"] - fitted["age"].median[0]) / fitted["age"].iqr[0],
            "track": (np.array(original["track"]) - fitted["track"].mean[0]) / fitted["track"].std[0],
            "vector": (np.frombuffer(original["vector"], "f4").reshape(2, 2, 3) - np.array(fitted["vector"].mean, "f8"))
            / fitted["vector"].std,
        }
        for name, values in expected.items():
            assert sample[name].dtype == np.float32
            np.testing.assert_allclose(sample[name], values, rtol=3e-6, atol=1e-6)
        if original["income"] is None:
            assert sample["income"] is None
        else:
            low, high = fitted["income"].min[0], fitted["income"].max[0]
            assert sample["income"] == pytest.approx((original["income"] - low) / (high - low), rel=1e-12)
        assert sample["country"].tolist() == [int(value == original["country"]) for value in fitted["country"].values]
        known = fitted["city"].values
        assert sample["city"] == (known.index(original["city"]) + 1 if original["city"] in known else 0)
    assert {int(sample["city"]) for sample in stored["validation"]} >= {0}


def test_statistics_are_those_of_the_stored_values(published: Published, stored: Any) -> None:
    content = published.manifest.content
    for name in ("age", "track", "vector", "country", "city"):
        summary = FieldSummary(content.dataset_schema[name])
        for sample in stored["train"]:
            summary.update(np.asarray(sample[name])[None])
        assert content.statistics.fields[name] == summary.finish()


def test_an_unknown_value_fails_the_job_where_none_may_be(spark: SparkSession, tmp_path: Path) -> None:
    strict = StandardiseOptions.model_validate({"features": {"city": {"method": "vocabulary", "unknown": False}}})
    with pytest.raises(
        InputError, match=r"field 'city': 'rare\d+' does not occur in the split that the values were taken from"
    ):
        publish(spark, tmp_path / "out", 2, standardise=strict)
    assert not list((tmp_path / "out").glob("v0*"))


PICTURES = Schema(
    fields=(
        Field(name="id", dtype="int64"),
        Field(name="image", dtype="uint8", shape=(16, 16, 3)),
        Field(name="png", dtype="uint8", shape=(16, 16, 3), codec="image"),
        Field(name="vector", dtype="float32", shape=(5,)),
        Field(name="label", dtype="int64"),
        Field(name="text", dtype="string"),
    )
)


def pictures() -> dict[int, dict[str, Any]]:
    rng = np.random.default_rng(9)
    out = {}
    for number in range(90):
        slope = rng.normal(0, 6, (2, 3))
        grid = np.mgrid[:16, :16].transpose(1, 2, 0) @ slope + rng.uniform(60, 190, 3)
        image = np.clip(grid + rng.normal(0, 3, (16, 16, 3)), 0, 255).astype("u1")
        out[number] = {
            "id": number, "image": image, "png": image[::-1].copy(), "vector": rng.normal(0, 50, 5).astype("f4"),
            "label": int(rng.integers(0, 4)), "text": "a text " * int(rng.integers(1, 9)),
        }  # fmt: skip
    return out


def publish_pictures(spark: SparkSession, path: Path, partitions: int, **fields: Any) -> Published:
    data = [
        (p["id"], p["image"].tobytes(), imagecodecs.png_encode(p["png"]), p["vector"].tobytes(), p["label"], p["text"])
        for p in pictures().values()
    ]
    frame = spark.createDataFrame(data, "id long, image binary, png binary, vector binary, label long, text string")
    wanted = {
        "image": {"codec": "jpeg", "quality": 92, "subsampling": "444", "min_psnr": 30},
        "png": {"codec": "webp", "quality": 80},
        "vector": {"codec": "float16", "max_error": 0.2},
        "label": {"codec": "zstd", "level": 9},
        "text": "gzip",
    }
    return write_dataset(
        frame.repartition(partitions), str(path), schema=PICTURES, key=("id",), quiet=True,
        shards=ShardOptions(count=3, row_group_bytes=2500, remainder="pad"),
        split=SplitOptions(fractions={"train": 0.8, "validation": 0.2}, seed=1),
        standardise=StandardiseOptions(fields=("image",)),
        compress=CompressOptions.model_validate({"columns": {"codec": "zstd", "level": 5}, "fields": wanted | fields}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def compressed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_pictures(spark, tmp_path_factory.mktemp("pictures") / "one", 1)


def test_pictures_of_another_partitioning_are_the_same_bytes(
    compressed: Published, spark: SparkSession, tmp_path: Path
) -> None:
    again = publish_pictures(spark, tmp_path / "four", 4)
    assert again.manifest.content_id == compressed.manifest.content_id
    assert tree(tmp_path / "four") == tree(Path(compressed.url))
    assert not verify(compressed.url).problems


def test_what_is_measured_is_what_lies_there(compressed: Published) -> None:
    """Beside imagecodecs, NumPy and fractions on what pyarrow reads."""
    found = compressed.manifest.content.compression
    assert list(found) == ["image", "label", "png", "text", "vector"]
    parts = [pq.ParquetFile(path) for path in sorted(Path(compressed.url).glob("v000001/*/shard=*/part-*.parquet"))]
    samples = [row for part in parts for row in part.read().to_pylist()]
    sizes: Counter[str] = Counter()
    for part in parts:
        for group in range(part.metadata.num_row_groups):
            for column in range(part.metadata.num_columns):
                chunk = part.metadata.row_group(group).column(column)
                sizes[chunk.path_in_schema] += chunk.total_compressed_size
    original = pictures()
    decode: dict[str, Any] = {"image": imagecodecs.jpeg8_decode, "png": imagecodecs.webp_decode}
    assert sum(row["_pad"] or False for row in samples if "_pad" in row) > 0
    for name in ("image", "png", "vector"):
        errors: list[float] = []
        for row in samples:
            stored = decode[name](row[name]) if name in decode else np.frombuffer(row[name][-10:], "f2")
            errors += (stored.astype("f8") - original[row["id"]][name].astype("f8")).ravel().tolist()
        mean = sum(Fraction(error) ** 2 for error in errors) / len(errors)
        assert found[name].level == "value"
        assert found[name].max_error == max(map(abs, errors))
        assert found[name].rmse == pytest.approx(math.sqrt(mean), rel=1e-15)
        assert found[name].psnr == (None if name == "vector" else round(10 * math.log10(255**2 / mean), 4))
        assert found[name].raw_bytes == len(samples) * original[0][name].nbytes
        assert found[name].stored_bytes == sizes[name]
    assert found["image"].configuration == {"quality": 92, "subsampling": "444"}
    assert (found["label"].level, found["label"].configuration, found["label"].max_error) == ("column", {"level": 9}, None)
    assert found["label"].raw_bytes == 8 * len(samples)
    assert found["text"].raw_bytes == sum(len(row["text"]) for row in samples)
    assert [found[name].stored_bytes for name in ("label", "text")] == [sizes["label"], sizes["text"]]
    group = parts[0].metadata.row_group(0)
    codecs = {group.column(number).path_in_schema: group.column(number).compression for number in range(group.num_columns)}
    assert (codecs["label"], codecs["text"], codecs["id"]) == ("ZSTD", "GZIP", "UNCOMPRESSED")


def test_statistics_and_reader_see_the_decoded_values(compressed: Published) -> None:
    content = compressed.manifest.content
    assert content.dataset_schema["image"].is_image
    train = sw.open_dataset(compressed.url, split="train")
    summary = FieldSummary(content.dataset_schema["image"])
    padded = content.splits["train"].padded
    pads = (
        [bool(sample["_pad"]) for sample in sw.open_dataset(compressed.url, split="train", columns=["id", "_pad"])]
        if padded
        else []
    )
    for number, sample in enumerate(train):
        if not (padded and pads[number]):
            summary.update(sample["image"][None])
    assert content.statistics.fields["image"] == summary.finish()
    (transform,) = content.transforms
    assert isinstance(transform, Standardisation)
    assert transform.mean == content.statistics.fields["image"].mean


def test_row_groups_and_blocks_follow_from_the_encoded_sizes(compressed: Published) -> None:
    index = pq.read_table(Path(compressed.url) / "v000001/_index.parquet").to_pylist()
    sizes = {
        int(sample["id"]): _encoded_bytes(compressed, sample)
        for split in ("train", "validation")
        for sample in _raw(compressed, split)
    }
    for split in ("train", "validation"):
        ids = [int(sample["id"]) for sample in _raw(compressed, split)]
        place = 0
        for group in (row for row in index if row["split"] == split):
            held = [sizes[i] for i in ids[place : place + group["samples"]]]
            assert sum(held) <= 2500 or len(held) == 1
            place += group["samples"]
    plan = compressed.manifest.content.plan
    assert (plan.row_group_bytes, plan.part_bytes, plan.block_bytes) == (2500, 512 * 2**20, 2**20)
    every = [sizes[int(sample["id"])] for split in ("train", "validation") for sample in _raw(compressed, split)]
    assert plan.block_samples == 2**20 * len(every) // sum(every)


def _raw(published: Published, split: str) -> list[dict[str, Any]]:
    paths = sorted(Path(published.url).glob(f"v000001/{split}/shard=*/part-*.parquet"))
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def _encoded_bytes(published: Published, row: dict[str, Any]) -> int:
    """By hand: 8 bytes a number, 16 of the key, lengths of 4 bytes before what varies, 128 bytes before 5 float16."""
    return 8 + 8 + 16 + sum(len(row[name]) + 4 for name in ("image", "png", "text")) + 128 + 10


def test_a_bound_that_does_not_hold_publishes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as error:
        publish_pictures(
            spark, tmp_path / "out", 2, image={"codec": "jpeg", "quality": 20, "min_psnr": 45},
            vector={"codec": "float16", "max_error": 1e-4},
        )  # fmt: skip
    assert "compress.fields.image (jpeg): min_psnr 45 dB is not reached: " in str(error.value)
    assert "compress.fields.vector (float16): max_error 0.0001 is exceeded: an element is off by 0.0" in str(error.value)
    assert not list((tmp_path / "out").glob("v0*"))


def test_what_can_not_be_is_said_before_the_run(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        publish_pictures(spark, tmp_path / "out", 1, vector="jpeg", txt="zstd")
    assert [problem.split(":")[0] for problem in error.value.problems] == ["compress.fields", "compress.fields.vector"]
    assert not (tmp_path / "out" / "_staging").exists() or not list((tmp_path / "out" / "_staging").iterdir())
