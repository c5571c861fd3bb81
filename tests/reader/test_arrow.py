"""Arrow tables and pandas frames of every kind of field, with real nulls."""

from __future__ import annotations

import importlib.util

import fsspec
import numpy as np
import pyarrow as pa
import pytest

import shardwright as sw
from shardwright.errors import MissingDependencyError
from shardwright.reader.arrow import arrow_table
from shardwright.schema import Field, Schema
from tests.datasets import keys_of, publish
from tests.reader.test_columns import DATA, SAMPLES, SCHEMA

TYPES = {
    "flag": pa.bool_(), "text": pa.string(), "blob": pa.binary(), "when": pa.timestamp("us"),
    "array": pa.fixed_shape_tensor(pa.float32(), (3, 2)),
    "flags": pa.fixed_shape_tensor(pa.bool_(), (4,)),
    "wide": pa.fixed_shape_tensor(pa.uint8(), (200, 200)),
    "packed": pa.fixed_shape_tensor(pa.int16(), (2,)),
    "zipped": pa.fixed_shape_tensor(pa.float32(), (3, 2)),
    "zipped_number": pa.int64(),
    "ragged": pa.list_(pa.list_(pa.int32(), 2)),
    "maybe_int": pa.uint8(), "maybe_float": pa.float32(), "maybe_flag": pa.bool_(), "maybe_when": pa.timestamp("us"),
    "maybe_text": pa.string(), "maybe_array": pa.fixed_shape_tensor(pa.float64(), (2,)), "maybe_ragged": pa.list_(pa.float64()),
}  # fmt: skip


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    root = tmp_path_factory.mktemp("arrow") / "d"
    publish(root, {"train": DATA}, SCHEMA, shards=3, remainder="spread", part_samples=8, row_group_samples=3)
    return sw.open_dataset(str(root))


def plain(value):
    """A value as Python says it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.datetime64):
        return value.astype(object)
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("name", SCHEMA.names)
def test_every_kind(train, name):
    table = train.reading(name).to_arrow()
    field = SCHEMA[name]
    assert table.column_names == [name]
    kind = table.schema.field(name).type
    assert kind == (TYPES[name] if name in TYPES else pa.type_for_alias(field.dtype))
    column = table[name]
    if isinstance(kind, pa.FixedShapeTensorType):
        found = [None if row is None else np.reshape(row, kind.shape).tolist() for row in column.to_pylist()]
    else:
        found = column.to_pylist()
    expected = [
        None if value is None else plain(np.asarray(value, field.numpy_dtype) if field.shape else value) for value in DATA[name]
    ]
    if field.dtype.startswith(("float", "int", "uint")) and not field.shape:
        expected = [None if value is None else np.dtype(field.dtype).type(value).item() for value in expected]
    assert found == expected
    assert column.null_count == sum(value is None for value in DATA[name])


def test_all_at_once_some_and_none(train):
    table = train.to_arrow()
    assert table.num_rows == SAMPLES
    assert table.column_names == list(SCHEMA.names)
    assert train[:0].to_arrow().schema == table.schema
    assert train.to_arrow([3, 1, -1])["zipped_number"].to_pylist() == [3, 1, SAMPLES - 1]
    tables = list(train.iter_arrow(10))
    assert [each.num_rows for each in tables] == [10, 10, 10, 7]
    assert all(each.schema == table.schema for each in tables)
    assert pa.concat_tables(tables)["text"].to_pylist() == table["text"].to_pylist()


def test_tensors_come_back_as_numpy(train):
    column = train.reading("array").to_arrow()["array"].combine_chunks()
    assert np.array_equal(column.to_numpy_ndarray(), DATA["array"])


def test_hidden_columns(tmp_path):
    schema = Schema(fields=(Field(name="n", dtype="int8"),))
    publish(tmp_path / "d", {"train": {"n": range(5)}}, schema, shards=2, remainder="pad")
    table = sw.open_dataset(str(tmp_path / "d"), columns=["_key", "_pad", "n"]).to_arrow()
    assert table.schema.types == [pa.binary(16), pa.bool_(), pa.int8()]
    assert table["_key"].to_pylist() == [key.tobytes() for key in keys_of("train", [0, 1, 2, 3, 4, 0])]
    assert table["_pad"].to_pylist() == [False] * 5 + [True]


@pytest.mark.parametrize("nullable", [False, True])
def test_pictures_decoded_or_as_they_are(tmp_path, nullable):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = [np.full((row + 1, 2, 3), row, np.uint8) for row in range(6)]
    data = [imagecodecs.png_encode(value) for value in values]
    if nullable:
        data[2] = None
    schema = Schema(fields=(Field(name="image", dtype="uint8", shape=(None, None, 3), codec="image", nullable=nullable),))
    publish(tmp_path / "d", {"train": {"image": data}}, schema, shards=2)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "d"), "/arrow", recursive=True)
    for url in (str(tmp_path / "d"), "memory://arrow"):
        train = sw.open_dataset(url)
        table = train.to_arrow()
        assert table.schema.field("image").type == pa.list_(pa.list_(pa.list_(pa.uint8(), 3)))
        assert table["image"].to_pylist() == [None if d is None else v.tolist() for v, d in zip(values, data, strict=True)]
        assert train.to_arrow(encoded=True)["image"].to_pylist() == data
        assert train.to_arrow([3], encoded=True).schema.types == [pa.binary()]
        assert train.reading("image", encoded=True).to_arrow()["image"].to_pylist() == data
    memory.rm("/arrow", recursive=True)


def test_a_loader_as_arrow(train):
    def made(batch):
        out = np.empty(len(batch["text"]), object)
        out[:] = [np.arange(len(text)) for text in batch["text"]]
        return {**batch, "text": out, "square": batch["array"] ** 2}

    options = {"batch_size": 10, "world": sw.World(), "normalise": ("wide", "zipped_number"), "transform": made}
    tables, batches = list(train.loader(**options).as_arrow()), list(train.loader(**options))
    assert [table.num_rows for table in tables] == [10, 10, 10, 7]
    for table, batch in zip(tables, batches, strict=True):
        assert table.schema.field("wide").type == pa.fixed_shape_tensor(pa.float32(), (200, 200))
        assert table.schema.field("zipped_number").type == pa.float32()
        assert table.schema.field("text").type == pa.list_(pa.int64())
        assert np.array_equal(table["square"].combine_chunks().to_numpy_ndarray(), batch["array"] ** 2)
        assert table["maybe_int"].is_null().to_pylist() == batch["maybe_int_mask"].tolist()
        assert not any(name.endswith("_mask") for name in table.column_names)


def test_a_nan_is_no_null(tmp_path):
    schema = Schema(fields=(Field(name="x", dtype="float32"), Field(name="y", dtype="float64", nullable=True)))
    publish(tmp_path / "d", {"train": {"x": [np.nan, 1.0], "y": [np.nan, None]}}, schema, shards=1)
    table = sw.open_dataset(str(tmp_path / "d")).to_arrow()
    assert (table["x"].null_count, table["y"].null_count) == (0, 1)
    assert table["y"].is_null().to_pylist() == [False, True]


def test_pandas(train, monkeypatch):
    pytest.importorskip("pandas")
    frame = train.reading("zipped_number", "text", "maybe_int", "when", "array").to_pandas()
    assert frame["zipped_number"].dtype == np.int64
    assert frame["text"].tolist() == DATA["text"]
    assert frame["maybe_int"].tolist() == DATA["maybe_int"]
    assert frame["when"].dtype == "M8[us]"
    assert np.array_equal(frame["array"][4], DATA["array"][4].ravel())
    assert train.to_pandas([2])["zipped_number"].tolist() == [2]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"to_pandas needs pandas: pip install 'shardwright\[pandas\]'"):
        train.to_pandas()


def test_a_batch_of_one_kind_that_is_all_missing():
    schema = Schema(
        fields=(
            Field(name="text", dtype="string", nullable=True),
            Field(name="blob", dtype="bytes", nullable=True),
            Field(name="ragged", dtype="int16", shape=(2, None), nullable=True),
        )
    )
    none = np.array([None, None], object)
    table = arrow_table({"text": none, "blob": none, "ragged": none}, schema)
    assert table.schema.types == [pa.string(), pa.binary(), pa.list_(pa.list_(pa.int16()), 2)]
    assert all(column.null_count == 2 for column in table.columns)
