"""Parquet as an input: types, partitions, row groups, and what can't be read."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.errors import InputError, InputNotFoundError, SchemaError
from shardwright.schema import Field
from shardwright.sources import open_source
from shardwright.sources.base import Source
from shardwright.stages import Rejects
from shardwright.stages.clean import Clean


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def clean(source: Source) -> tuple[pa.RecordBatch, Rejects]:
    return Clean(source.schema)(read(source).combine_chunks().to_batches()[0])


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_times_of_96_bits_are_those_that_were_written(tmp_path: Path) -> None:
    days = [np.datetime64(day, "us").item() for day in ("0001-01-01", "2024-02-29T12:00:00.000007", "9999-12-31")]
    table = {"t": pa.array(days, pa.timestamp("us")), "list": pa.array([[1]] * 3)}
    write(tmp_path / "x.parquet", table, use_deprecated_int96_timestamps=True)
    assert read(open_source("parquet", tmp_path))["t"].to_pylist() == days


def test_fields_are_inferred_from_the_columns(tmp_path: Path) -> None:
    day = np.datetime64("2024-02-29T12:00:00.000007").item()
    write(
        tmp_path / "x.parquet",
        {
            "i": pa.array([1, 2], pa.int16()), "f": pa.array([0.5, 1.5], pa.float32()), "b": pa.array([True, False]),
            "h": pa.array([0.5, 1], pa.float16()), "s": pa.array(["a", "ä"]), "raw": pa.array([b"x", b"yz"]),
            "fsb": pa.array([b"ab", b"cd"], pa.binary(2)), "t": pa.array([day, day], pa.timestamp("us")),
            "tz": pa.array([0, 1], pa.timestamp("ms", tz="Asia/Tokyo")),
            "list": pa.array([[1, 2], []], pa.list_(pa.int32())), "vec": pa.array([[1, 2], [3, 4]], pa.list_(pa.float64(), 2)),
            "large": pa.array(["a", "b"], pa.large_string()), "dict": pa.array(["u", "v"]).dictionary_encode(),
        },
    )  # fmt: skip
    source = open_source("parquet", tmp_path)
    assert {f.name: (f.dtype, f.shape) for f in source.schema} == {
        "i": ("int16", ()), "f": ("float32", ()), "b": ("bool", ()), "h": ("float16", ()), "s": ("string", ()),
        "raw": ("bytes", ()), "fsb": ("bytes", ()), "t": ("timestamp", ()), "tz": ("timestamp", ()),
        "list": ("int32", (None,)), "vec": ("float64", (2,)), "large": ("string", ()), "dict": ("string", ()),
    }  # fmt: skip
    assert not any(field.nullable for field in source.schema)
    batch, rejects = clean(source)
    assert rejects.rows == []
    rows = batch.to_pylist()
    assert (rows[1]["s"], rows[1]["large"], rows[1]["dict"], rows[1]["raw"], rows[1]["fsb"]) == ("ä", "b", "v", b"yz", b"cd")
    assert rows[0]["t"] == day
    assert rows[1]["tz"] == np.datetime64("1970-01-01T00:00:00.001000").item()
    assert np.frombuffer(rows[1]["vec"]).tolist() == [3, 4]
    np.testing.assert_array_equal(np.load(io.BytesIO(rows[0]["list"])), np.array([1, 2], np.int32))
    assert rows[1]["_source"] == "x.parquet#1"


def test_binary_columns_are_declared_as_arrays(tmp_path: Path) -> None:
    images = np.arange(2 * 6, dtype=np.uint8).reshape(2, 2, 3)
    write(
        tmp_path / "x.parquet",
        {
            "raw": [image.tobytes() for image in images],
            "fsb": pa.array([image.tobytes() for image in images], pa.binary(6)),
            "cell": [npy(image) for image in images],
            "photo": [b"\xff\xd8\xff", b"text"],
        },
    )
    array = {"dtype": "uint8", "shape": [2, 3]}
    photo = {"dtype": "uint8", "shape": [2, 3, 3], "codec": "image"}
    source = open_source("parquet", tmp_path, fields={"raw": array, "fsb": array, "cell": array, "photo": photo})
    table = read(source)
    for name in ("raw", "fsb", "cell"):
        schema = type(source.schema)(fields=(source.schema[name],))
        batch, rejects = Clean(schema)(table.combine_chunks().to_batches()[0])
        assert rejects.rows == []
        assert batch[name].to_pylist() == [image.tobytes() for image in images]
    assert clean(source)[1].reasons == [
        "a jpeg cut short: it has no end marker", "not a jpeg, png, webp, jpegxl picture (it begins with b'text')",
    ]  # fmt: skip


def test_nullable_has_to_be_declared(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", {"x": [1, None, 3]})
    assert clean(open_source("parquet", tmp_path))[1].reasons == ["null in a field that is not nullable"]
    batch, rejects = clean(open_source("parquet", tmp_path, fields={"x": {"nullable": True, "dtype": "int8"}}))
    assert (batch["x"].to_pylist(), rejects.rows) == ([1, None, 3], [])


def test_row_groups_are_tasks_and_every_cut_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = 0
    for name, count in (("a", 100), ("b", 1), ("c", 37)):
        write(tmp_path / f"{name}.parquet", {"x": range(first, first + count), "s": [name] * count}, row_group_size=10)
        first += count
    source = open_source("parquet", tmp_path)
    whole = read(source).to_pylist()
    assert [row["x"] for row in whole] == list(range(138))
    assert whole[99]["_source"] == "a.parquet#99"
    assert whole[101]["_source"] == "c.parquet#0"
    monkeypatch.setattr("shardwright.sources.parquet.BATCH_BYTES", 300)
    counts = set()
    for task_bytes in (1, 600, 2000, 10**6):
        tasks = source.tasks(task_bytes)
        counts.add(len(tasks))
        travelled = copy.deepcopy(source)
        assert [row for task in tasks for batch in travelled.read(task) for row in batch.to_pylist()] == whole
    assert counts >= {15, 1}
    assert len(counts) == 4


def test_hive_partitions_are_columns(tmp_path: Path) -> None:
    for day, label in (("1", "a b"), ("2", "c%2Fd"), ("3", "__HIVE_DEFAULT_PARTITION__")):
        write(tmp_path / f"day={day}/label={label}/x.parquet", {"x": [int(day)] * 2})
    source = open_source("parquet", tmp_path, fields={"label": {"nullable": True}})
    assert [(f.name, f.dtype) for f in source.schema] == [("x", "int64"), ("day", "int64"), ("label", "string")]
    rows = [(row["x"], row["day"], row["label"]) for row in read(source).to_pylist()]
    assert rows == [(1, 1, "a b"), (1, 1, "a b"), (2, 2, "c/d"), (2, 2, "c/d"), (3, 3, None), (3, 3, None)]
    text = open_source("parquet", tmp_path, fields={"day": {"dtype": "string"}}, columns=["day", "x"])
    assert text.schema.names == ("day", "x")
    assert read(text)["day"].to_pylist() == ["1", "1", "2", "2", "3", "3"]
    only = open_source("parquet", tmp_path, columns=["day"])
    assert read(only).to_pydict()["day"] == [1, 1, 2, 2, 3, 3]
    write(tmp_path / "day=4/x.parquet", {"x": [1]})
    with pytest.raises(InputError, match=r"expected the columns of .*'label': partition there, none here"):
        open_source("parquet", tmp_path)


def test_columns_leave_out_what_can_not_be_a_field(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [1], "shard": [2], "pair": [{"a": 1}], "my col": [3], "_key": [4], "d": [[[1]]]})
    for name in ("shard", "my col", "_key"):
        with pytest.raises(
            SchemaError, match=rf"{path}: column '{name}' can't be a field: .*read\.rename = .*, or leave it out"
        ):
            open_source("parquet", path, columns=["x", name])
    for name in ("pair", "d"):
        with pytest.raises(SchemaError, match=rf"{path}: column '{name}' has a type that no field can have \(.*\); leave it"):
            open_source("parquet", path, columns=["x", name])
    assert read(open_source("parquet", path, columns=["x"])).to_pylist() == [{"x": 1, "_source": "x.parquet#0"}]
    with pytest.raises(SchemaError, match=r"no column 'shrad'; did you mean 'shard'\?"):
        open_source("parquet", path, columns=["shrad"])
    with pytest.raises(SchemaError, match=r"field 'y' is declared, but there is no such column; known: x"):
        open_source("parquet", path, columns=["x"], fields={"y": {"dtype": "int8"}})
    with pytest.raises(SchemaError, match=r"field 'x' is declared uint8 \(2, 2\), which a column of int64 can't hold"):
        open_source("parquet", path, columns=["x"], fields={"x": {"dtype": "uint8", "shape": [2, 2]}})
    with pytest.raises(SchemaError, match=r"field 'pair' is declared string .*can't hold"):
        open_source("parquet", path, columns=["pair"], fields={"pair": {"dtype": "string"}})


def test_files_whose_columns_differ_are_told(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", {"x": [1], "y": ["a"], "only": [1]})
    second = write(tmp_path / "b.parquet", {"y": pa.array(["a"]).dictionary_encode(), "x": pa.array([1], pa.int32())})
    with pytest.raises(InputError) as error:
        open_source("parquet", tmp_path)
    differ = "'only': int64 there, none here; 'x': int64 there, int32 here"
    assert str(error.value) == f"{second}: expected the columns of {first}, found others ({differ})"
    assert read(open_source("parquet", tmp_path, columns=["y"]))["y"].to_pylist() == ["a", "a"]


def test_damaged_and_empty_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for data in (b"", b"hello", b"PAR1" + bytes(100)):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"{path}: expected a Parquet file, found one that can't be read \(.+\)"):
            open_source("parquet", path)
    write(path, {"x": pa.array([], pa.int64())})
    with pytest.raises(InputError, match=r"x.parquet: expected samples, found no row in 1 parquet files"):
        open_source("parquet", path)
    with pytest.raises(InputNotFoundError, match=r"no file or folder"):
        open_source("parquet", tmp_path / "y.parquet")


def test_a_flipped_byte_in_a_page_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": np.arange(1000)}, compression="NONE", use_dictionary=False,
                 write_page_checksum=True)  # fmt: skip
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    source = open_source("parquet", path)
    with pytest.raises(InputError, match=r"x.parquet: expected a Parquet file, found one that can't be read \(.*CRC"):
        read(source)


def test_one_column_twice_is_told(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"column 'x' is there twice"):
        open_source("parquet", tmp_path)
    write(tmp_path / "hive/x=1/a.parquet", {"x": [1]})
    with pytest.raises(InputError, match=r"column 'x' is there twice \(hive partitions in folder names count\)"):
        open_source("parquet", tmp_path / "hive")


def test_nested_fixed_size_lists_have_their_shape(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.int32).reshape(2, 3, 2)
    column = pa.array(values.tolist(), pa.list_(pa.list_(pa.int32(), 2), 3))
    write(tmp_path / "x.parquet", {"m": column})
    source = open_source("parquet", tmp_path)
    assert source.schema["m"] == Field(name="m", dtype="int32", shape=(3, 2))
    batch, rejects = clean(source)
    assert rejects.rows == []
    assert b"".join(batch["m"].to_pylist()) == values.tobytes()
