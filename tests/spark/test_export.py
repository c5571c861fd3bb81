"""`jobs/export.py`: TFRecord files that TensorFlow and `prepare` read back with equal values."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.export import app
from shardwright.config import Config
from shardwright.errors import DatasetNotFoundError, SchemaError, StorageError
from shardwright.format.manifest import FileDigest
from shardwright.reader import open_dataset
from shardwright.schema import Field, Schema
from shardwright.spark import prepare
from shardwright.spark.export import export
from shardwright.spark.export_formats import Written
from shardwright.spark.export_parts import PartWritten
from shardwright.storage import LocalStorage
from tests.datasets import publish

SCHEMA = Schema(
    fields=(
        Field(name="image", dtype="uint8", shape=(4, 4)),
        Field(name="label", dtype="int64"),
        Field(name="weights", dtype="float32", shape=(3,)),
        Field(name="exact", dtype="float64"),
        Field(name="name", dtype="string"),
        Field(name="age", dtype="int32", nullable=True),
        Field(name="track", dtype="float32", shape=(None, 2)),
    )
)
WITH_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf

folder, out = sys.argv[1:]
spec = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "weights": tf.io.FixedLenFeature([3], tf.float32),
    "exact": tf.io.FixedLenFeature([], tf.string),
    "name": tf.io.FixedLenFeature([], tf.string),
    "age": tf.io.VarLenFeature(tf.int64),
    "track": tf.io.VarLenFeature(tf.float32),
}

def parse(record):
    found = tf.io.parse_single_example(record, spec)
    found["image"] = tf.reshape(tf.io.decode_raw(found["image"], tf.uint8), [4, 4])
    found["exact"] = tf.reshape(tf.io.decode_raw(found["exact"], tf.float64), [])
    found["age"] = tf.concat([found["age"].values, [-1]], 0)[0]
    found["track"] = tf.reshape(found["track"].values, [-1, 2])
    return found

files = tf.data.Dataset.list_files(folder + "/train/*.gz", shuffle=False)
rows = list(tf.data.TFRecordDataset(files, compression_type="GZIP").map(parse).as_numpy_iterator())
tracks = [row.pop("track") for row in rows]
np.savez(out, sizes=[len(track) for track in tracks], track=np.concatenate(tracks),
         **{name: np.stack([row[name] for row in rows]) for name in rows[0]})
"""


def samples(count: int, first: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(first)
    return {
        "image": random.integers(0, 256, (count, 4, 4), np.uint8),
        "label": np.arange(first, first + count),
        "weights": random.normal(size=(count, 3)).astype(np.float32),
        "exact": random.normal(size=count),
        "name": [f"größe {number}" for number in range(count)],
        "age": [None if number % 3 == 0 else number for number in range(count)],
        "track": [random.normal(size=(number % 4, 2)).astype(np.float32) for number in range(count)],
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "d"
    publish(path, {"train": samples(37), "test": samples(8, 100)}, SCHEMA, shards=4, remainder="pad", part_samples=6)
    return path


@pytest.fixture(scope="module")
def exported(spark: SparkSession, root: Path) -> Path:
    out = root.parent / "exported"
    assert export(str(root), str(out), quiet=True).new
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(url: Path, split: str = "train") -> list[dict[str, Any]]:
    """The real samples, by label."""
    padded = open_dataset(str(url), split=split).manifest.content.plan.remainder == "pad"
    dataset = open_dataset(str(url), split=split, columns=[*SCHEMA.names, "_key", *(["_pad"] if padded else [])])
    return sorted((row for row in dataset if not row.pop("_pad", False)), key=lambda row: int(row["label"]))


def test_what_lies_there(exported: Path) -> None:
    files = contents(exported)
    assert sorted(files) == sorted(
        [
            *(f"train/shard-{number:05d}-of-00008.tfrecord.gz" for number in range(8)),
            *(f"test/shard-{number:05d}-of-00004.tfrecord.gz" for number in range(4)),
            "train/_features.json", "test/_features.json", "_export.json", "_SHA256SUMS",
        ]
    )  # fmt: skip
    about = json.loads(files["_export.json"])
    assert about["splits"] == {"test": 8, "train": 37}
    sums = files.pop("_SHA256SUMS").decode().splitlines()
    assert sums == [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())]
    assert [path.name for path in exported.parent.iterdir() if path.name.startswith("exported")] == ["exported"]


def test_tensorflow_reads_equal_values(exported: Path, root: Path, tmp_path: Path) -> None:
    script = tmp_path / "read.py"
    script.write_text(WITH_TENSORFLOW)
    command = [sys.executable, str(script), str(exported), str(tmp_path / "found.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    expected = samples(37)
    order = np.argsort(found["label"])
    for name in ("image", "label", "weights", "exact"):
        np.testing.assert_array_equal(found[name][order], expected[name])
    assert [text.decode() for text in found["name"][order]] == expected["name"]
    assert found["age"][order].tolist() == [-1 if age is None else age for age in expected["age"]]
    tracks = np.split(found["track"], np.cumsum(found["sizes"])[:-1])
    for place, number in enumerate(order.tolist()):
        np.testing.assert_array_equal(tracks[number], expected["track"][place])


def test_prepare_gives_back_an_equal_dataset(exported: Path, root: Path, tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "name": "back",
            "read": {"format": "tfrecord", "path": str(exported / "train")},
            "shard": {"count": 4, "remainder": "spread"},
            "publish": {"path": str(tmp_path / "back")},
        }
    )
    back = prepare(config, quiet=True)
    assert back.manifest.content.dataset_schema == SCHEMA
    here, there = rows_of(root), rows_of(tmp_path / "back")
    assert len(here) == len(there) == 37
    for one, other in zip(here, there, strict=True):
        for name in SCHEMA.names:
            np.testing.assert_array_equal(one[name], other[name])


def test_columns_splits_and_plain_files(exported: Path, root: Path, tmp_path: Path) -> None:
    done = export(
        str(root), str(tmp_path / "some"), splits=["test"], columns=["label", "image"], compression="none", quiet=True
    )
    assert done.about.splits == {"test": 8}
    assert all(name.endswith(".tfrecord") for name in done.files)
    features = json.loads((tmp_path / "some/test/_features.json").read_bytes())
    assert [field["name"] for field in features["fields"]] == ["label", "image"]


def test_a_place_that_is_taken(exported: Path, root: Path) -> None:
    before = contents(exported)
    again = export(str(root), str(exported), quiet=True)
    assert not again.new
    with pytest.raises(StorageError, match=r"expected a directory that does not exist yet, found .*exported: remove it, or"):
        export(str(root), str(exported), compression="none", quiet=True)
    assert contents(exported) == before


def test_a_killed_export_goes_on(exported: Path, root: Path, tmp_path: Path) -> None:
    """Files that were finished stay, those that were not are written, and nothing else is left."""
    again = tmp_path / "again"
    about = export(str(root), str(exported), quiet=True).about
    partial = LocalStorage(tmp_path / f"again.partial-{about.attempt}")
    for directory in ("train", "_temporary"):
        partial.make_directory(directory)
    whole = "train/shard-00003-of-00008.tfrecord.gz"
    partial.write(whole, (exported / whole).read_bytes())
    partial.write("_temporary/0123", b"half")
    LocalStorage(tmp_path / "again.partial-other").make_directory("train")
    written = partial.local_path(whole).stat().st_mtime_ns
    export(str(root), str(again), quiet=True)
    assert contents(again) == contents(exported)
    assert (again / whole).stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize("to", ["mds", "webdataset"])
def test_other_formats_go_on_too(to: Any, root: Path, tmp_path: Path) -> None:
    """A part counts as finished by the note of it; a file without one is written again, and is the same."""
    columns = [name for name in SCHEMA.names if name != "age"]
    once = export(str(root), str(tmp_path / "once"), to=to, columns=columns, quiet=True)
    assert len(once.files) == 12
    partial = LocalStorage(tmp_path / f"again.partial-{once.about.attempt}")
    for directory in ("train", "_done"):
        partial.make_directory(directory)
    whole, unknown = (name for name in once.files if "00001-of-00008" in name or "00002-of-00008" in name)
    for name in (whole, unknown):
        partial.write(name, (tmp_path / "once" / name).read_bytes())
    data = (tmp_path / "once" / whole).read_bytes()
    digest = FileDigest(name=whole, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    raw = digest.model_copy(update={"name": whole.rpartition("/")[2]}) if to == "mds" else None
    note = PartWritten(split="train", number=1, files=(Written(digest=digest, samples=99, raw=raw),))
    partial.write("_done/train-00001.json", note.model_dump_json().encode())
    export(str(root), str(tmp_path / "again"), to=to, columns=columns, quiet=True)
    one, other = contents(tmp_path / "once"), contents(tmp_path / "again")
    if to == "mds":  # the note was believed, or it would not be 99
        index, wrong = json.loads(one.pop("train/index.json")), json.loads(other.pop("train/index.json"))
        assert wrong["shards"][1].pop("samples") == 99
        del index["shards"][1]["samples"], one["_SHA256SUMS"], other["_SHA256SUMS"]
        assert index == wrong
    assert one == other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "once"]


def test_what_has_no_form_is_refused_before_the_run(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"these fields may be null: age; leave them out by --columns, or export"):
        export(str(root), str(tmp_path / "x"), to="mds")
    with pytest.raises(SchemaError, match=r"every field may be null \(age\), and a sample without values has no member"):
        export(str(root), str(tmp_path / "x"), to="webdataset", columns=["age"])
    job = CliRunner().invoke(app, [str(root), "--output", str(tmp_path / "x"), "--to", "mds"])
    assert isinstance(job.exception, SchemaError)
    assert not list(tmp_path.iterdir())


def test_errors(exported: Path, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"has no split 'tset': did you mean 'test'\?"):
        export(str(root), str(tmp_path / "x"), splits=["tset"])
    with pytest.raises(SchemaError, match=r"no field 'lable'; did you mean 'label'\?"):
        export(str(root), str(tmp_path / "x"), columns=["lable"])
    job = CliRunner().invoke(app, [str(root), "--output", str(exported), "--quiet"])
    assert (job.exit_code, "nothing to do" in job.stdout) == (0, True)
    assert not (tmp_path / "x").exists()
