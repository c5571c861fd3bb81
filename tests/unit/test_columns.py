"""What a user says of columns: other names, and dtypes that hold for files which disagree; and what can't be a field."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from shardwright.errors import InputError, SchemaError
from shardwright.sources import open_source
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean
from shardwright.stages.read import AddKeys
from tests.unit.lines import read, reasons
from tests.unit.test_tables import write_avro, write_tfrecord

ODD: dict[str, list[Any]] = {"User ID": [1, 2], "image/name": ["a", "b"]}
RENAME = {"user": "User ID", "name": "image/name"}


def write_odd(format: str, path: Path) -> Path:  # noqa: A002
    """Two rows in columns whose names no field can have."""
    path.mkdir(parents=True)
    match format:
        case "csv":
            (path / "x").write_text("User ID,image/name\n1,a\n2,b\n")
        case "jsonl":
            (path / "x").write_text('{"User ID": 1, "image/name": "a"}\n{"User ID": 2, "image/name": "b"}\n')
        case "parquet":
            pq.write_table(pa.table(ODD), path / "x")
        case "orc":
            orc.write_table(pa.table(ODD), path / "x")
        case "tfrecord":
            write_tfrecord(path / "x", ODD)
        case "npz":
            arrays: dict[str, Any] = {name: np.array(values) for name, values in ODD.items()}
            np.savez(path / "x.npz", **arrays)
        case "npy":
            np.save(path / "User ID.npy", ODD["User ID"])
            np.save(path / "image.name.npy", ODD["image/name"])
    return path


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "orc", "tfrecord", "npz", "npy"])
def test_columns_get_other_names(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = write_odd(format, tmp_path / "in")
    rename = RENAME if format != "npy" else {**RENAME, "name": "image.name"}
    source = open_source(format, path, rename=rename)
    assert sorted(source.schema.names) == ["name", "user"]
    table = read(source)
    assert table["user"].to_pylist() == [1, 2]
    text = [value if isinstance(value, str) else value.decode() for value in table["name"].to_pylist()]
    assert text == ["a", "b"]
    chosen = open_source(format, path, rename=rename, columns=["user"], fields={"user": {"dtype": "int64", "nullable": True}})
    assert [(field.name, field.nullable) for field in chosen.schema] == [("user", True)]
    assert read(chosen)["user"].to_pylist() == [1, 2]
    with pytest.raises(
        SchemaError, match=r"columns? .*'User ID'.* can't be (a field|fields): .*read\.rename = { .*\"User ID\""
    ):
        open_source(format, path)
    with pytest.raises(SchemaError, match=r"read\.rename: no column 'User Id'; did you mean 'User ID'"):
        open_source(format, path, rename={"user": "User Id"})


def test_a_name_that_can_not_be_given_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    for rename, message in (
        ({"b": "a"}, r"read\.rename: 'b' is the name of another column; give that one another name too"),
        ({"x": "a", "y": "a"}, r"read\.rename: expected one name for column 'a', found several"),
        ({"shard": "a"}, r"column 'shard' can't be a field"),
        ({"B": "a"}, r"fields named twice: B, b; upper and lower case are the same to Spark: .*read\.rename"),
    ):
        with pytest.raises(SchemaError, match=message):
            open_source("csv", path, rename=rename)
    swapped = open_source("csv", path, rename={"b": "a", "a": "b"})
    assert read(swapped).select(["a", "b"]).to_pylist() == [{"a": 2, "b": 1}]


def test_all_names_that_can_not_be_fields_are_told_at_once_and_shortly(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(",".join(["_id", "class", "größe", "2nd", "a b", "a.b", "x" * 500 + "-"]) + "\n")
    with pytest.raises(SchemaError) as error:
        open_source("csv", path)
    assert str(error.value).endswith(
        "x.csv: columns '_id', 'class', 'größe', '2nd', 'a b' and 2 more can't be fields: a name is a letter followed by "
        "letters, digits or '_', and neither 'shard' nor a Python keyword; give another by read.rename = { id = \"_id\", "
        'column_class = "class", gr_e = "größe", column_2nd = "2nd", a_b = "a b" }, or leave it out by read.columns'
    )


def test_partitions_and_other_files_are_renamed_too(tmp_path: Path) -> None:
    for day in ("1", "2"):
        (tmp_path / f"the day={day}").mkdir()
        (tmp_path / f"the day={day}/x.csv").write_text(f"a b\n{day}\n")
    source = open_source("csv", tmp_path, rename={"x": "a b", "day": "the day"})
    assert read(source).select(["x", "day"]).to_pydict() == {"x": [1, 2], "day": [1, 2]}
    (tmp_path / "the day=2/x.csv").write_text("a b,x\n1,2\n")
    with pytest.raises(InputError, match=r"the day=2/x\.csv: column 'x' is there twice"):
        open_source("csv", tmp_path, rename={"x": "a b", "day": "the day"})


def test_labels_of_pictures_are_renamed(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"bytes of 1")
    (tmp_path / "labels.csv").write_text("Image Path,the label\n1.jpg,7\n")
    options = {"labels": "labels.csv", "path_column": "path"}
    rename = {"path": "Image Path", "label": "the label", "picture": "image"}
    source = open_source("images", tmp_path, options=options, rename=rename)
    (row,) = read(source).to_pylist()
    assert (source.schema.names, row["picture"], row["label"]) == (("picture", "label"), b"bytes of 1", 7)


def checked(source: Source) -> tuple[list[dict[str, Any]], list[str]]:
    """The good rows, in order, and why the others are bad."""
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    travelled = copy.deepcopy(source)
    for task in source.tasks(2**26):
        for batch in travelled.read(task):
            keyed, refused = AddKeys(source.schema)(batch)
            kept, rejects = Clean(source.schema)(keyed)
            rows += kept.select(source.schema.names).to_pylist()
            bad += [*refused.reasons, *rejects.reasons]
    return rows, bad


def write_decimals(format: str, path: Path, values: list[str | None], digits: int, scale: int) -> None:  # noqa: A002
    column = [None if value is None else Decimal(value) for value in values]
    if format == "avro":
        kind = {"type": "bytes", "logicalType": "decimal", "precision": digits, "scale": scale}
        schema: Any = {"type": "record", "name": "row", "fields": [{"name": "x", "type": ["null", kind]}]}
        with path.open("wb") as stream:
            fastavro.writer(stream, schema, [{"x": value} for value in column])
        return
    table = pa.table({"x": pa.array(column, pa.decimal128(digits, scale))})
    pq.write_table(table, path) if format == "parquet" else orc.write_table(table, path)


@pytest.mark.parametrize("format", ["parquet", "orc", "avro"])
def test_decimals_are_what_they_are_declared(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = tmp_path / "x"
    write_decimals(format, path, ["1.25", "-3.50", "7.00", None], 10, 2)
    with pytest.raises(
        SchemaError, match=r"'x' has a type that no field can have \(decimal128\(10, 2\); declare it float64, int64"
    ):
        open_source(format, path)
    for dtype, expected in (
        ("float64", [1.25, -3.5, 7.0, None]),
        ("string", ["1.25", "-3.50", "7.00", None]),
        ("int32", [7, None]),
    ):
        source = open_source(format, path, fields={"x": {"dtype": dtype, "nullable": True}})
        rows, bad = checked(source)
        assert [row["x"] for row in rows] == expected
        told = ["column 'x': expected int64, found 1.25", "column 'x': expected int64, found -3.50"]
        assert bad == (told if dtype == "int32" else [])
    with pytest.raises(SchemaError, match=r"field 'x' is declared bool \(\), which a column of decimal128\(10, 2\) can't hold"):
        open_source(format, path, fields={"x": {"dtype": "bool"}})


@pytest.mark.parametrize("format", ["parquet", "avro"])
def test_whole_decimals_keep_every_digit(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = tmp_path / "x"
    numbers = [2**63 - 1, -(2**63), 10**37, 2**53 + 1]
    write_decimals(format, path, [str(number) for number in numbers], 38, 0)
    rows, bad = checked(open_source(format, path, fields={"x": {"dtype": "int64"}}))
    assert [row["x"] for row in rows] == [numbers[0], numbers[1], numbers[3]]
    assert bad == [f"column 'x': expected int64, found {10**37}"]


def test_a_declared_dtype_holds_for_files_of_other_types(tmp_path: Path) -> None:
    columns = {"1": pa.array([1, 2], pa.int64()), "2": pa.array([2, 3], pa.int32()), "3": pa.nulls(1)}
    for name, column in columns.items():
        pq.write_table(pa.table({"x": column}), tmp_path / name)
    with pytest.raises(
        InputError, match=r"2: expected the columns of .*1, found others \('x': int64 there, int32 here\); declare one dtype"
    ):
        open_source("parquet", tmp_path)
    source = open_source("parquet", tmp_path, fields={"x": {"dtype": "int64", "nullable": True}})
    rows, bad = checked(source)
    assert ([row["x"] for row in rows], bad) == ([1, 2, 2, 3, None], [])
    keys = [
        key for batch in source.read(source.tasks(2**26)[0]) for key in AddKeys(source.schema)(batch)[0]["_key"].to_pylist()
    ]
    assert keys[1] == keys[2]  # 2 is 2, however many bits it takes
    assert len(set(keys)) == 4
    small = open_source("parquet", tmp_path, fields={"x": {"dtype": "uint8", "nullable": True}})
    assert [row["x"] for row in checked(small)[0]] == [1, 2, 2, 3, None]


def test_partitions_are_what_they_are_declared(tmp_path: Path) -> None:
    for value in ("1.5", "2"):
        (tmp_path / f"p={value}").mkdir()
        (tmp_path / f"p={value}/x.csv").write_text("a\n1\n")
    assert read(open_source("csv", tmp_path))["p"].to_pylist() == ["1.5", "2"]
    assert read(open_source("csv", tmp_path, fields={"p": {"dtype": "float32"}}))["p"].to_pylist() == [1.5, 2.0]
    with pytest.raises(SchemaError, match=r"field 'p' is declared timestamp \(\), which a column of string can't hold"):
        open_source("csv", tmp_path, fields={"p": {"dtype": "timestamp"}})


def test_odd_values_of_partitions(tmp_path: Path) -> None:
    values = {"a b": "a b", "%20x": " x", "ü": "ü", "k=v": "k=v", "1": "1", "": "", "__HIVE_DEFAULT_PARTITION__": None}
    for number, folder in enumerate(values):
        (tmp_path / f"p={folder}").mkdir()
        (tmp_path / f"p={folder}/x.csv").write_text(f"a\n{number}\n")
    source = open_source("csv", tmp_path, fields={"p": {"dtype": "string", "nullable": True}})
    found = {row["a"]: row["p"] for row in checked(source)[0]}
    assert found == dict(enumerate(values.values()))


def test_an_empty_file_says_nothing_of_columns(tmp_path: Path) -> None:
    for name in ("0", "2"):
        (tmp_path / name).write_bytes(b"")
    write_tfrecord(tmp_path / "1", {"x": [1, 2]})
    assert read(open_source("tfrecord", tmp_path))["x"].to_pylist() == [1, 2]
    write_avro(tmp_path / "1", {"x": [1, 2]})
    with pytest.raises(InputError, match=r"0: expected an Avro file, found one that can't be read"):
        open_source("avro", tmp_path)


def test_thousands_of_other_columns_are_told_shortly(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text(",".join(f"a{number}" for number in range(5000)) + "\n")
    (tmp_path / "2.csv").write_text(",".join(f"b{number}" for number in range(5000)) + "\n")
    with pytest.raises(
        InputError, match=r"2\.csv: expected the columns of .*'a1': string there, none here; .* and 9995 more\)$"
    ):
        open_source("csv", tmp_path)


def test_a_header_among_rows_of_thousands_of_columns(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(2000)]
    row = ",".join("1" for _ in names)
    (tmp_path / "x.csv").write_text("\n".join([",".join(names), row, ",".join(names), row]) + "\n")
    table = read(open_source("csv", tmp_path, fields={name: {"dtype": "int64"} for name in names}))
    assert list(reasons(table).values()) == ["column 'c0': expected int64, found 'c0'"]
    assert table["c1999"].to_pylist() == [1, None, 1]
