"""read.format = "petastorm": the values are those that stock Petastorm reads, in forms that fields can have."""

from __future__ import annotations

import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.errors import InputError, SchemaError, UnsafeMetadataError
from shardwright.format.batch import mask_name, to_arrays
from shardwright.schema import Field
from shardwright.sources import open_source
from shardwright.stages.clean import Clean, CleanOptions
from tests.petastorm.conftest import Oracle
from tests.petastorm.stored import DATA
from tests.petastorm.written import (
    COMPRESSED,
    NATIVE,
    NDARRAY,
    image,
    npy,
    npz,
    scalar,
    unischema,
    unischema_field,
    write_dataset,
)

DAY, FIRST, LAST = (np.datetime64(text, "us").item() for text in ("2020-01-02", "0001-01-01", "9999-12-31"))
IDS = {
    "arrays": "id",
    "hello_world": "id",
    "ngram": "timestamp_us",
    "partitioned": "id",
    "scalars": "id",
    "upstream-0.7.6": "id",
}


def read(root: Path, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The samples that pass the checks, decoded, and the reasons why others do not."""
    source = open_source("petastorm", root, **options)
    clean = Clean(source.schema, CleanOptions(non_finite="keep"))
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    for task in source.tasks(2**26):
        for batch in source.read(task):
            reasons += [reason for reason in batch["_reject"].to_pylist() if reason]
            kept, rejects = clean(batch.filter(batch["_reject"].is_null()).drop_columns(["_reject"]))
            reasons += rejects.reasons
            rows += _rows(kept, list(source.schema))
    return rows, reasons


def _rows(batch: pa.RecordBatch, fields: list[Field]) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {}
    for field in fields:
        arrays = to_arrays(field, batch[field.name])
        mask = arrays.get(mask_name(field.name), np.zeros(batch.num_rows, bool))
        values = arrays[field.name]
        columns[field.name] = [None if missing else value for value, missing in zip(values, mask, strict=True)]
    return [{name: values[row] for name, values in columns.items()} for row in range(batch.num_rows)]


@pytest.mark.parametrize("name", IDS)
def test_values_are_those_of_stock_petastorm(name: str, petastorm_oracle: Oracle) -> None:
    rows, reasons = read(DATA / name / "data")
    rows.sort(key=lambda row: row[IDS[name]])
    wanted = petastorm_oracle(DATA / name / "data", "reader", id_field=IDS[name])
    assert not reasons
    assert len(rows) == len(wanted) > 0
    for ours, theirs in zip(rows, wanted, strict=True):
        assert set(ours) == set(theirs)
        wrong = {field: (ours[field], theirs[field]) for field in ours if not _same(field, ours[field], theirs[field])}
        assert not wrong


def _same(field: str, ours: Any, theirs: Any) -> bool:
    if theirs is None or (isinstance(theirs, np.floating) and np.isnan(theirs)):
        return ours is None
    if isinstance(theirs, Decimal):
        return isinstance(ours, str) and Decimal(ours) == theirs and ours == str(theirs)
    if isinstance(theirs, np.datetime64):
        return bool(ours == theirs)
    if isinstance(theirs, np.ndarray) and theirs.dtype.kind in "US":
        texts = np.char.decode(theirs, "latin-1") if theirs.dtype.kind == "S" else theirs
        return bool(json.loads(ours) == texts.tolist())
    if isinstance(theirs, np.ndarray):
        slack = 3 if field == "jpg" else 0  # two decoders may round differently
        same = theirs.dtype == ours.dtype and theirs.shape == ours.shape
        return same and bool((np.abs(ours.astype(float) - theirs.astype(float)) <= slack).all())
    if isinstance(theirs, str):
        return bool(ours == unquote(theirs))  # stock leaves folders' names as they are encoded
    return bool(np.asarray(ours).dtype == np.asarray(theirs).dtype and ours == theirs)


def test_pictures_keep_their_bytes() -> None:
    source = open_source("petastorm", DATA / "arrays" / "data", columns=["jpg", "png16"])
    batch = next(source.read(source.tasks(2**26)[0]))
    stored = pq.read_table(next((DATA / "arrays" / "data").glob("part-00000*")))
    assert batch["jpg"].to_pylist() == stored["jpg"].to_pylist()
    assert batch["png16"].to_pylist() == stored["png16"].to_pylist()
    assert {field.name: field.codec and field.codec.name for field in source.schema} == {"jpg": "image", "png16": "image"}


def test_what_the_user_declares_stands_above(tmp_path: Path) -> None:
    rows, _ = read(
        DATA / "scalars" / "data", columns=["number", "dec"], rename={"number": "n_i32"}, fields={"dec": {"dtype": "float64"}}
    )
    assert rows[0] == {"number": 0, "dec": 0.0}
    assert rows[1]["number"] is None
    assert rows[1]["dec"] == 1000003.000001


ODD: dict[str, tuple[str, bytes, tuple[int | None, ...], pa.Array, list[Any]]] = {
    "object of times": (
        "object_", scalar("TimestampType"), (), pa.array([DAY], pa.timestamp("us")),
        [np.datetime64("2020-01-02", "us")],
    ),
    "object of Decimal": ("object_", scalar("DecimalType"), (), pa.array([Decimal("1.50")]), ["1.50"]),
    "small Decimal": ("decimal.Decimal", scalar("DecimalType"), (), pa.array([Decimal("-0.0000001")]), ["-1E-7"]),
    "float of Decimal": ("float64", scalar("DecimalType"), (), pa.array([Decimal("1.5")]), [1.5]),
    "text as bytes": ("bytes_", scalar("StringType"), (), pa.array(["é"]), ["é".encode()]),
    "bytes": ("bytes_", scalar("BinaryType"), (), pa.array([b"\x00a\x00"]), [b"\x00a\x00"]),
    "Python's int": ("builtins.int", scalar("LongType"), (), pa.array([7]), [7]),
    "an array that is a number": ("float32", NDARRAY, (), pa.array([npy(1.5, "<f4")]), [np.float32(1.5)]),
    "an array that is a bool": ("bool_", COMPRESSED, (), pa.array([npz(True)]), [True]),
    "times": (
        "datetime64", NDARRAY, (None,), pa.array([npy(["1970-01-01T00:00:01", "NaT"], "<M8[ns]")]), [[10**6, -(2**63)]],
    ),
    "compressed texts": ("str_", COMPRESSED, (1, 2), pa.array([npz([["a", "é\n"], ["", "b"]])]), ['[["a","é\\n"],["","b"]]']),
    "bytes in an array": ("bytes_", NDARRAY, (None,), pa.array([npy([b"\x00\xff", b"a"])]), ['["\\u0000ÿ","a"]']),
    "lists": ("int32", NATIVE, (None,), pa.array([[1, 2]], pa.list_(pa.int32())), [[1, 2]]),
    "lists of one length": ("float32", NATIVE, (2, 2), pa.array([[1, 2, 3, 4]], pa.list_(pa.float32())), [[[1, 2], [3, 4]]]),
    "lists of texts": ("str_", NATIVE, (None,), pa.array([["a", None, "é"]]), ['["a",null,"é"]']),
    "lists of bytes": ("bytes_", NATIVE, (None,), pa.array([[b"\xff"]]), ['["ÿ"]']),
    "a size of 0 is any size": ("int16", NDARRAY, (0, 2), pa.array([npy([[1, 2]], "<i2")]), [[[1, 2]]]),
    "big-endian": ("int16", NDARRAY, (2,), pa.array([npy([1, 2], ">i2")]), [[1, 2]]),
    "a picture of another kind": ("uint8", image("bmp"), (1, 1, 3), pa.array([b"BM"]), [b"BM"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_types(name: str, tmp_path: Path) -> None:
    dtype, codec, shape, column, wanted = ODD[name]
    pickled = unischema(unischema_field("x", dtype, codec, shape))
    rows, reasons = read(write_dataset(tmp_path, pickled, {"p.parquet": pa.table({"x": column})}))
    assert not reasons
    found = [row["x"].tolist() if isinstance(row["x"], np.ndarray) and row["x"].ndim else row["x"] for row in rows]
    assert found == wanted


@pytest.mark.parametrize(
    ("dtype", "codec", "shape", "column"),
    [
        ("complex64", NDARRAY, (2,), pa.array([b""])),
        ("timedelta64", NDARRAY, (2,), pa.array([b""])),
        ("object_", NDARRAY, (None,), pa.array([b""])),
        ("decimal.Decimal", NDARRAY, (None,), pa.array([b""])),
        ("datetime64", scalar("StringType"), (), pa.array(["2020-01-01"])),
        ("int32", scalar("StringType"), (), pa.array(["1"])),
        ("int32", NATIVE, (None,), pa.array([1])),
        ("object_", NATIVE, (), pa.array([{"a": 1}])),
        ("uint8", image("png"), (2, 2), pa.array(["text"])),
    ],
)
def test_what_no_field_can_hold_is_refused_before_anything_runs(
    dtype: str, codec: bytes, shape: tuple[int | None, ...], column: pa.Array, tmp_path: Path
) -> None:
    pickled = unischema(unischema_field("bad", dtype, codec, shape))
    root = write_dataset(tmp_path, pickled, {"p.parquet": pa.table({"bad": column})})
    with pytest.raises(
        SchemaError, match=rf"column 'bad' has a type that no field can have \({dtype.rpartition('.')[2]} .*read\.columns"
    ):
        open_source("petastorm", root)


def test_such_a_field_can_be_left_out_or_kept_as_bytes(tmp_path: Path) -> None:
    pickled = unischema(unischema_field("bad", "complex64", NDARRAY, (2,)), unischema_field("x", "int64"))
    cell = npy([1 + 2j, 3], "<c8")
    root = write_dataset(tmp_path, pickled, {"p.parquet": pa.table({"bad": [cell], "x": [7]})})
    assert read(root, columns=["x"]) == ([{"x": 7}], [])
    assert read(root, fields={"bad": {"dtype": "bytes"}}) == ([{"bad": cell, "x": 7}], [])


BAD_CELLS = {
    "no zip": b"PK\x03\x04" + bytes(60),
    "another member": None,
    "Python objects": None,
    "an announced size": None,
}


def _bad_cell(name: str) -> bytes:
    if BAD_CELLS[name] is not None:
        return BAD_CELLS[name] or b""
    sink = io.BytesIO()
    if name == "another member":
        np.savez_compressed(sink, other=np.zeros(2))
        return sink.getvalue()
    with zipfile.ZipFile(sink, "w") as archive:
        header = {"Python objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"}.get(
            name, "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,), }"
        )
        archive.writestr(
            "arr.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"cos\nsystem\n."
        )
    return sink.getvalue()


@pytest.mark.parametrize("name", BAD_CELLS)
@pytest.mark.parametrize("dtype", ["float32", "str_"])
def test_damaged_cells_are_rejected_with_their_reason(name: str, dtype: str, tmp_path: Path) -> None:
    good = npz([1, 2], "<f4") if dtype == "float32" else npz(["a", "b"])
    pickled = unischema(unischema_field("x", dtype, COMPRESSED, (None,), True))
    table = pa.table({"x": pa.array([good, _bad_cell(name), None, good])})
    rows, reasons = read(write_dataset(tmp_path, pickled, {"p.parquet": table}))
    assert len(rows) == 3
    assert len(reasons) == 1


def test_cells_that_unpack_to_much_come_in_small_batches(tmp_path: Path) -> None:
    cell = npz(np.zeros(2**22, np.uint8))  # 4 MiB in 4 kB
    pickled = unischema(unischema_field("x", "uint8", COMPRESSED, (2**22,)))
    root = write_dataset(tmp_path, pickled, {"p.parquet": pa.table({"x": [cell] * 20})})
    source = open_source("petastorm", root)
    batches = list(source.read(source.tasks(2**26)[0]))
    assert [batch.num_rows for batch in batches] == [3, 3, 3, 3, 3, 3, 2]
    assert [row for batch in batches for row in batch["_source"].to_pylist()] == [f"p.parquet#{row}" for row in range(20)]


def test_times_before_1678_are_what_spark_wrote(tmp_path: Path) -> None:
    pickled = unischema(unischema_field("t", "datetime64", scalar("TimestampType")))
    table = pa.table({"t": pa.array([FIRST, LAST], pa.timestamp("us"))})
    root = write_dataset(tmp_path, pickled, {"p.parquet": table}, use_deprecated_int96_timestamps=True)
    rows, _ = read(root)
    assert [row["t"].item() for row in rows] == [FIRST, LAST]


def test_columns_that_the_unischema_does_not_name_are_left_out(tmp_path: Path) -> None:
    table = pa.table({"x": [1], "y": [2]})
    root = write_dataset(tmp_path, unischema(unischema_field("x", "int64")), {"p.parquet": table})
    assert open_source("petastorm", root).schema.names == ("x",)


def test_a_field_without_a_column(tmp_path: Path) -> None:
    pickled = unischema(unischema_field("x", "int64"), unischema_field("day", "int64"))
    root = write_dataset(tmp_path, pickled, {"p.parquet": pa.table({"x": [1]})})
    with pytest.raises(
        SchemaError, match=r"column 'day' has a type that no field can have \(neither a column nor a folder 'day'=…"
    ):
        open_source("petastorm", root)
    assert read(root, columns=["x"]) == ([{"x": 1}], [])


def test_a_folder_that_is_no_petastorm_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'found no _common_metadata .*\(read\.format = "parquet"\)'):
        open_source("petastorm", DATA / "plain" / "data")
    root = write_dataset(tmp_path, None, {"p.parquet": pa.table({"x": [1]})})
    with pytest.raises(InputError, match="expected a Unischema, found none"):
        open_source("petastorm", root)


def test_a_hostile_pickle_is_refused_when_the_input_is_opened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickled = b"cos\nsystem\n(Vtouch " + str(marker).encode() + b"\ntR."
    root = write_dataset(tmp_path / "data", pickled, {"p.parquet": pa.table({"x": [1]})})
    with pytest.raises(UnsafeMetadataError, match=r"'os\.system'"):
        open_source("petastorm", root)
    assert not marker.exists()
