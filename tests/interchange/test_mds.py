"""MDS shards: what MosaicML Streaming writes is read with equal values, and what an export writes the library reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pyspark.sql import SparkSession

from shardwright.config import Config
from shardwright.errors import SchemaError
from shardwright.format.mds import NUMBERS, OPAQUE, PICTURES, TEXTS
from shardwright.reader import open_dataset
from shardwright.schema import Field, Schema
from shardwright.sources import open_source
from shardwright.spark import export_formats, prepare
from shardwright.spark.export import export
from tests.datasets import publish
from tests.interchange.library import ask, good_rows, plain
from tests.interchange.samples import NULLABLE, SCHEMA, samples

ENVIRONMENT = "mosaicml-streaming"
WRITE = """
import os
from decimal import Decimal
from PIL import Image
from streaming import MDSWriter, StreamingDataset
from streaming.base.format.mds.encodings import get_mds_encodings

os.environ["HF_HUB_OFFLINE"] = "1"
folder, compression = sys.argv[1], sys.argv[2] or None
numbers = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + ["float16", "float32", "float64"]
columns = {
    "an_int": "int", "text": "str", "raw": "bytes", "data": "json", "jpg": "jpeg", "png": "png", "any": "ndarray",
    "typed": "ndarray:float32", "fixed": "ndarray:int16:2,3", "s_int": "str_int", "s_float": "str_float",
    "s_decimal": "str_decimal", **{f"n_{name}": name for name in numbers},
}
def row(k):
    picture = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3) + k)
    return {
        "an_int": k - 3, "text": f"größe {k}", "raw": bytes([k]) * (k % 3), "data": {"k": k}, "jpg": picture, "png": picture,
        "any": np.full((k % 3 + 1, 2), k, np.uint16), "typed": np.full(k % 2 + 1, k / 3, np.float32),
        "fixed": np.full((2, 3), -k, np.int16), "s_int": k, "s_float": k / 7, "s_decimal": Decimal(k) / 4,
        **{f"n_{name}": getattr(np, name)(k) for name in numbers},
    }
with MDSWriter(columns=columns, out=folder, compression=compression, hashes=["sha1", "xxh3_64"], size_limit=2500) as out:
    for k in range(12):
        out.write(row(k))
dataset = StreamingDataset(local=folder, batch_size=1, shuffle=False) if not compression else []
def texts(one):
    known = json.dumps(sorted(get_mds_encodings()))
    return {**one, "data": json.dumps(one["data"]), "s_decimal": str(one["s_decimal"]), "encodings": known}
show(map(texts, dataset))
"""
NO_FIELDS = """
from PIL import Image
from streaming import MDSWriter
picture = Image.fromarray(np.zeros((2, 2, 3), np.uint8))
columns = {"label": "int", "p": "pkl", "pil": "pil", "many": "jpeg_array", "list": "list[png]"}
with MDSWriter(columns=columns, out=sys.argv[1]) as out:
    out.write({"label": 1, "p": {"x": 1}, "pil": picture, "many": [b"one", b"other"], "list": [picture]})
show([])
"""
READ = """
from streaming import StreamingDataset
show(StreamingDataset(local=sys.argv[1], batch_size=1, shuffle=False))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("mds") / "plain"
    return path, ask(ENVIRONMENT, WRITE, path, "")


def check_rows(path: Path, expected: list[dict[str, Any]]) -> None:
    found = list(good_rows(open_source("mds", path), 1))
    assert len(found) == len(expected) == 12
    for row, other in zip(found, expected, strict=True):
        same = {name: plain(value) for name, value in row.items()}
        for name, decode in (("jpg", imagecodecs.jpeg8_decode), ("png", imagecodecs.png_decode)):
            assert plain(decode(row[name])) == other[name]
            del same[name]
        assert same == {name: other[name] for name in same}


def test_what_the_library_writes(written: tuple[Path, list[dict[str, Any]]]) -> None:
    path, expected = written
    source = open_source("mds", path)
    arrays = {field.name: (field.dtype, field.shape) for field in source.schema if field.shape}
    assert arrays == {
        "any": ("uint16", (None, 2)), "fixed": ("int16", (2, 3)), "jpg": ("uint8", (None, None, 3)),
        "png": ("uint8", (None, None, 3)), "typed": ("float32", (None,)),
    }  # fmt: skip
    assert len(source.files) > 4
    check_rows(path, expected)


@pytest.mark.parametrize("compression", ["zstd:7", "gz", "bz2", "br:3", "snappy"])
def test_compressed_shards(compression: str, written: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    ask(ENVIRONMENT, WRITE, tmp_path / "packed", compression)
    assert all(path.name == "index.json" or path.suffix != ".mds" for path in (tmp_path / "packed").iterdir())
    check_rows(tmp_path / "packed", written[1])


def test_no_encoding_of_the_library_is_unknown(written: tuple[Path, list[dict[str, Any]]]) -> None:
    ours = [*NUMBERS, *TEXTS, *PICTURES, *OPAQUE, "bytes", "ndarray", "str_float", "str_int"]
    assert sorted(ours) == json.loads(written[1][0]["encodings"])


def test_what_no_field_can_hold_is_kept_as_bytes(tmp_path: Path) -> None:
    ask(ENVIRONMENT, NO_FIELDS, tmp_path / "mds")
    names = ("p", "pil", "many", "list")
    source = open_source("mds", tmp_path / "mds", fields={name: {"dtype": "bytes"} for name in names})
    (row,) = good_rows(source)
    assert row["p"].startswith(b"\x80\x04")  # a pickle, as it is
    assert row["many"] == b"\2\0\0\0\3\0\0\0\5\0\0\0oneother"
    assert [row["label"] for row in good_rows(open_source("mds", tmp_path / "mds", columns=["label"]))] == [1]
    with pytest.raises(ValueError, match=r"column 'list' has values of encoding 'list\[png\]' that no field can hold"):
        open_source("mds", tmp_path / "mds")
    with pytest.raises(
        ValueError, match=r"column 'p' .* 'pkl' that are pickles, which can run any code .* dtype = \"bytes\" in"
    ):
        open_source("mds", tmp_path / "mds", columns=["p"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "d"
    publish(path, {"train": samples(23)}, NULLABLE, shards=2, remainder="pad", part_samples=7)
    return path


@pytest.fixture(scope="module")
def rows(root: Path) -> dict[int, dict[str, Any]]:
    dataset = open_dataset(str(root), split="train", columns=[*SCHEMA.names, "_pad"])
    return {int(row["number"]): row for row in dataset if not row.pop("_pad")}


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_library_reads_what_an_export_writes(
    compression: Any, spark: SparkSession, root: Path, rows: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    done = export(str(root), str(tmp_path / "out"), to="mds", columns=SCHEMA.names, compression=compression, quiet=True)
    assert len(done.files) == 4
    index = json.loads((tmp_path / "out/train/index.json").read_bytes())
    for shard in index["shards"]:
        stored = shard["zip_data"] or shard["raw_data"]
        data = (tmp_path / "out/train" / stored["basename"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (stored["bytes"], stored["hashes"]["sha256"])
    found = ask(ENVIRONMENT, READ, tmp_path / "out/train")
    assert sorted(row["number"][2] for row in found) == list(range(23))
    for row in found:
        expected = rows[row["number"][2]]
        for field in SCHEMA:
            value = plain(expected[field.name])
            kind = {"bool": "uint8", "timestamp": "int64"}.get(field.dtype, field.dtype)
            if field.dtype not in ("string", "bytes"):
                value = [kind, value[1], json.loads(json.dumps(value[2]).replace("true", "1").replace("false", "0"))]
            assert row[field.name] == value, field.name


def test_an_export_comes_back_equal(spark: SparkSession, root: Path, rows: dict[int, dict[str, Any]], tmp_path: Path) -> None:
    export(str(root), str(tmp_path / "out"), to="mds", columns=SCHEMA.names, quiet=True)
    source = open_source("mds", tmp_path / "out/train")
    decoded = {"packed": Field(name="packed", dtype="float32", shape=(5,))}
    assert {field.name: field for field in source.schema} == {field.name: decoded.get(field.name, field) for field in SCHEMA}
    read = {"format": "mds", "path": str(tmp_path / "out/train")}
    shard = {"count": 2, "remainder": "spread"}
    config = {"name": "back", "read": read, "shard": shard, "publish": {"path": str(tmp_path / "back")}}
    assert prepare(Config.model_validate(config), quiet=True).manifest.lineage.counts.published == 23
    back = {int(row["number"]): row for row in open_dataset(str(tmp_path / "back"), split="train")}
    assert len(back) == 23
    for number, row in rows.items():
        assert {name: plain(value) for name, value in back[number].items()} == {
            name: plain(value) for name, value in row.items()
        }


def test_nullable_fields_are_refused_before_the_run(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"MDS has no nulls, .* may be null: age, note, place; leave them out by"):
        export(str(root), str(tmp_path / "out"), to="mds", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_part_becomes_shards_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same code in this process: Spark's workers do not see what a test changes."""
    monkeypatch.setattr(export_formats, "MDS_SHARD_BYTES", 150)
    schema = Schema(fields=(Field(name="text", dtype="string"),))
    sizes = [10, 20, 400, 100, 30, 0, 140]
    batch = {"text": np.array(["x" * size for size in sizes], object)}
    form, written = export_formats.MdsFormat(), []
    for file in form.files(schema, [batch], 0, "shard"):
        data = b"".join(file.pieces)
        (tmp_path / file.name).write_bytes(data)
        assert file.raw
        assert file.raw.sha256 == hashlib.sha256(data).hexdigest()
        written.append(export_formats.Written(digest=file.raw, samples=file.samples, raw=file.raw))
    for name, data in form.beside(schema, written, "none").items():
        (tmp_path / name).write_bytes(data)
    assert [one.samples for one in written] == [2, 1, 3, 1]
    found = ask(ENVIRONMENT, READ, tmp_path)
    assert [len(row["text"]) for row in found] == sizes
