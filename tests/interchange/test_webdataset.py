"""WebDataset tars: what the library writes is read with equal values, and what an export writes the library reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shardwright.config import Config
from shardwright.format.webdataset import split_name
from shardwright.reader import open_dataset
from shardwright.schema import Field
from shardwright.sources import open_source
from shardwright.spark import prepare
from shardwright.spark.export import export
from tests.datasets import publish
from tests.interchange.library import ask, good_rows, plain, plain_row
from tests.interchange.samples import NULLABLE, samples

ENVIRONMENT = "webdataset"
WRITE = """
import webdataset as wds
folder = sys.argv[1]
for file, name in enumerate(["a.tar", "b.tar.gz"]):
    with wds.TarWriter(f"{folder}/{name}") as out:
        for row in range(5 * file, 5 * file + 5):
            out.write({
                "__key__": f"some/folder.v1/{row:04d}", "cls": row - 3, "txt": f"größe {row}".encode(),
                "json": {"row": row}, "npy": np.full((row % 3 + 1, 2), row / 4, np.float32), "seg.npy": np.arange(4) * row,
                "JPG": bytes([255, 216, 255, row]), "bin": bytes([row]), "score.txt": str(row / 8),
            })
samples = wds.WebDataset([f"{folder}/a.tar", f"{folder}/b.tar.gz"], shardshuffle=False).decode()
def texts(one):
    return {name: json.dumps(value) if name == "json" else value for name, value in one.items() if name != "__url__"}
show(map(texts, samples))
"""
READ = """
import glob
import webdataset as wds
files = sorted(glob.glob(sys.argv[1] + "/*.tar*"))
def pick(one):
    return {name: value for name, value in one.items() if name not in ("__url__", "__local_path__")}
show(pick(one) for one in wds.WebDataset(files, shardshuffle=False).decode())
"""
NAMES = """
from webdataset.tariterators import base_plus_ext
show([{"found": json.dumps(base_plus_ext(name))} for name in json.loads(sys.argv[1])])
"""


def test_what_the_library_writes(tmp_path: Path) -> None:
    expected = ask(ENVIRONMENT, WRITE, tmp_path)
    assert len(expected) == 10
    source = open_source(
        "webdataset", tmp_path, rename={"key": "__key__", "seg": "seg.npy", "score": "score.txt"},
        fields={"score": {"dtype": "float64"}},
    )  # fmt: skip
    dtypes = {field.name: (field.dtype, field.shape) for field in source.schema}
    assert dtypes == {
        "bin": ("bytes", ()), "cls": ("int64", ()), "jpg": ("uint8", (None, None, 3)), "json": ("string", ()),
        "key": ("string", ()), "npy": ("float32", (None, 2)), "score": ("float64", ()), "seg": ("int64", (4,)),
        "txt": ("string", ()),
    }  # fmt: skip
    rows = [row for task in source.tasks(1) for batch in source.read(task) for row in batch.to_pylist()]
    assert [row["key"] for row in rows] == [row["__key__"] for row in expected]
    assert [row["jpg"].hex() for row in rows] == [row["jpg"] for row in expected]
    assert rows[7]["_source"] == "b.tar.gz#some/folder.v1/0007"
    source = open_source(
        "webdataset", tmp_path, rename={"seg": "seg.npy", "score": "score.txt"}, fields={"score": {"dtype": "float64"}},
        columns=["cls", "txt", "json", "npy", "seg", "bin", "score"],
    )  # fmt: skip
    for row, other in zip(good_rows(source), expected, strict=True):
        same = {name: plain(value) for name, value in row.items()}
        assert same.pop("seg") == other["seg.npy"]
        assert same.pop("score")[2] == float(other["score.txt"])
        assert same == {name: other[name] for name in same}


def test_names_are_taken_apart_as_the_library_does(tmp_path: Path) -> None:
    names = ["a.jpg", "a/b.c.d", "a.b/c.d", "a.b/c", "a", "x/y.seg.PNG", "a..b", "a.", "./a.x", "/a/b.x", "a b.x"]
    found = [json.loads(row["found"]) for row in ask(ENVIRONMENT, NAMES, json.dumps(names))]
    for name, (key, extension) in zip(names, found, strict=True):
        assert split_name(name) == (None if key is None else (key, extension.lower())), name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "d"
    publish(path, {"train": samples(23)}, NULLABLE, shards=2, remainder="pad", part_samples=7)
    return path


@pytest.fixture(scope="module")
def rows(root: Path) -> dict[int, dict[str, Any]]:
    dataset = open_dataset(str(root), split="train", columns=[*NULLABLE.names, "_pad"])
    return {int(row["number"]): row for row in dataset if not row.pop("_pad")}


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_library_reads_what_an_export_writes(
    compression: Any, spark: SparkSession, root: Path, rows: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    done = export(str(root), str(tmp_path / "out"), to="webdataset", compression=compression, quiet=True)
    assert len(done.files) == 4
    found = ask(ENVIRONMENT, READ, tmp_path / "out/train")
    keys = [f"{part:05d}-{row:08d}" for part, count in enumerate((7, 5, 7, 4)) for row in range(count)]
    assert [row.pop("__key__") for row in found] == keys
    assert sorted(row["number.cls"][2] for row in found) == list(range(23))
    pictures = dict(enumerate(samples(23)["picture"]))
    for row in found:
        number = row["number.cls"][2]
        expected = {name: value for name, value in rows[number].items() if value is not None}
        for field in NULLABLE:
            check(field.name, field.dtype, bool(field.shape), row, expected, pictures[number])
        assert not row, row


def check(name: str, dtype: str, array: bool, row: dict[str, Any], expected: dict[str, Any], picture: bytes) -> None:
    """Takes the member of a field out of a row of the library."""
    members = [member for member in row if member.rpartition(".")[0] == name.lower()]
    if name not in expected:
        assert not members
        return
    (member,) = members
    value, suffix = row.pop(member), member.rpartition(".")[2]
    if name == "picture":
        assert (value, suffix) == (picture.hex(), "png" if picture.startswith(b"\x89") else "jpg")
    elif array or dtype in ("string", "bytes"):
        assert value == plain(expected[name])
        assert suffix == ("npy" if array else "txt" if dtype == "string" else "bin")
    else:
        assert repr(value[2]) == repr(plain(expected[name])[2] * 1)
        assert suffix == ("json" if dtype.startswith("float") else "cls")


def test_an_export_comes_back_equal(spark: SparkSession, root: Path, rows: dict[int, dict[str, Any]], tmp_path: Path) -> None:
    export(str(root), str(tmp_path / "out"), to="webdataset", quiet=True)
    source = open_source("webdataset", tmp_path / "out/train")
    decoded = {"packed": Field(name="packed", dtype="float32", shape=(5,))}
    assert source.schema.fields == tuple(decoded.get(field.name, field) for field in NULLABLE)
    read = {"format": "webdataset", "path": str(tmp_path / "out/train")}
    shard = {"count": 2, "remainder": "spread"}
    config = {"name": "back", "read": read, "shard": shard, "publish": {"path": str(tmp_path / "back")}}
    assert prepare(Config.model_validate(config), quiet=True).manifest.lineage.counts.published == 23
    back = {int(row["number"]): row for row in open_dataset(str(tmp_path / "back"), split="train")}
    for number, row in rows.items():
        assert plain_row(back[number]) == plain_row(row)
