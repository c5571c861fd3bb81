"""TFRecord files as an input: what their features become, and what can't be read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwright.errors import ConfigError, InputError, SchemaError
from shardwright.format.features import FEATURES, Features
from shardwright.format.tfrecord import encode_examples, example_type, frame
from shardwright.schema import Field, Schema
from shardwright.sources import open_source
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def example(**features: Any) -> bytes:
    message = example_type()()
    for name, values in features.items():
        kind = {bytes: "bytes", float: "float", int: "int64"}[type(values[0])]
        getattr(message.features.feature[name], f"{kind}_list").value.extend(values)
    return message.SerializeToString()


def write(path: Path, *records: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(map(frame, records))
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_columns_are_those_of_the_first_records(tmp_path: Path) -> None:
    write(
        tmp_path / "a.tfrecord",
        example(n=[1], v=[0.5, 1.5], r=[1, 2, 3], b=[b"x"]),
        example(n=[2], v=[1.0, 2.0], r=[4], b=[b"\xff"]),
    )
    write(tmp_path / "b.tfrecord.gz", example(n=[3], v=[3.0, 3.0], r=[5, 6]))
    source = open_source("tfrecord", tmp_path)
    assert {f.name: (f.dtype, f.shape) for f in source.schema} == {
        "b": ("bytes", ()), "n": ("int64", ()), "r": ("int64", (None,)), "v": ("float32", (2,)),
    }  # fmt: skip
    table = read(source)
    assert table["n"].to_pylist() == [1, 2, 3]
    assert table["b"].to_pylist() == [b"x", b"\xff", None]
    assert table["r"].to_pylist() == [[1, 2, 3], [4], [5, 6]]
    assert table["v"].to_pylist() == [[0.5, 1.5], [1, 2], [3, 3]]
    assert table["_source"].to_pylist() == ["a.tfrecord#0", "a.tfrecord#1", "b.tfrecord.gz#0"]
    assert read(source, 1).equals(table)
    assert Clean(source.schema)(table.combine_chunks().to_batches()[0])[1].reasons == ["null in a field that is not nullable"]


def test_declared_features(tmp_path: Path) -> None:
    path = write(tmp_path / "a", example(n=[1], r=[1, 2]), example(n=[1, 2], r=[7]), b"no example", example(more=[1]))
    source = open_source("tfrecord", path, options={"features": {"n": "int64", "r": "int64[]", "s": "bytes"}})
    table = read(source)
    assert table["n"].to_pylist() == [1, None, None, None]
    reasons = table["_reject"].to_pylist()
    assert (reasons[0], reasons[1], reasons[3]) == (None, "feature 'n': expected 1 values, found 2", None)
    assert reasons[2].startswith("a record of 10 bytes that is no tf.train.Example")
    text = open_source("tfrecord", path, options={"features": {"s": "bytes"}}, fields={"s": {"dtype": "string"}})
    assert text.schema["s"].dtype == "string"
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*features.a: expected 'bytes', .*found 'int'.*features.b: expected"):
        open_source("tfrecord", path, options={"features": {"a": "int", "b": "float[0]"}})
    with pytest.raises(ConfigError, match=r"option 'feature'; did you mean 'features'\?"):
        open_source("tfrecord", path, options={"feature": {}})


def test_what_an_export_noted_comes_back(tmp_path: Path) -> None:
    schema = Schema(fields=(Field(name="z", dtype="uint8", shape=(2, 2)), Field(name="a", dtype="string", nullable=True)))
    values = {"z": np.arange(8, dtype=np.uint8).reshape(2, 2, 2), "a": np.array(["ä", None], object)}
    write(tmp_path / "train/x.tfrecord", *encode_examples(schema, values))
    (tmp_path / FEATURES).write_text(Features(fields=schema.fields).model_dump_json())
    source = open_source("tfrecord", tmp_path)
    assert source.schema == schema
    batch, rejects = Clean(schema)(read(source).combine_chunks().to_batches()[0])
    assert rejects.rows == []
    assert batch["z"].to_pylist() == [image.tobytes() for image in values["z"]]
    assert batch["a"].to_pylist() == ["ä", None]
    assert open_source("tfrecord", tmp_path, columns=["a"]).schema.names == ("a",)
    (tmp_path / FEATURES).write_text('{"format_version": 2}')
    with pytest.raises(InputError, match=r"_features.json: expected what shardwright's export writes, found something else"):
        open_source("tfrecord", tmp_path)


def test_what_is_no_tfrecord_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    good = frame(example(n=[1]))
    for data, problem in (
        (b"some text that is no record", "expected a TFRecord file, found one whose header has another checksum"),
        (good[:-1], "record 0 is cut short: expected 18 bytes after its header, found 17"), (good[:5], "record 0 is cut short"),
        (gzip.compress(good)[:-9], "expected a TFRecord file, found one that can't be read \\(Compressed file ended"),
        (b"", "expected features in the first 100 records, found none"), (frame(b""), "expected features in the first"),
        (frame(b"abc"), "expected records that are tf.train.Example, found one that is none"),
        (good + frame(example(n=[0.5])), "expected one kind of values in feature 'n', found float, int64; declare the option"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"^{path}: {problem}"):
            open_source("tfrecord", path)
    path.write_bytes(frame(example(n=[b"a", b"b"])))
    with pytest.raises(SchemaError, match=r"column 'n' has a type that no field can have"):
        open_source("tfrecord", path)


def test_a_frame_that_begins_like_gzip(tmp_path: Path) -> None:
    filling = 0x088B1F - len(example(n=[bytes(0x080000)])) + 0x080000
    record = example(n=[bytes(filling)])
    path = write(tmp_path / "a", record)
    assert path.read_bytes()[:3] == b"\x1f\x8b\x08"
    assert len(read(open_source("tfrecord", path))["n"][0].as_py()) == filling
