"""What all formats of rows share: files that differ, change or vanish, many files, and rows that are very large."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from shardwright.errors import InputError
from shardwright.format.tfrecord import example_type, frame
from shardwright.sources import open_source, tables
from shardwright.sources.base import BATCH_BYTES, Source
from shardwright.stages.clean import Clean
from shardwright.stages.read import AddKeys

Writer = Callable[[Path, dict[str, list[Any]]], None]


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    pq.write_table(pa.table(columns), path)


def write_orc(path: Path, columns: dict[str, list[Any]]) -> None:
    orc.write_table(pa.table(columns), path)


def write_avro(path: Path, columns: dict[str, list[Any]]) -> None:
    kinds = {int: "long", str: "string", bytes: "bytes"}
    fields = [{"name": name, "type": kinds[type(values[0])]} for name, values in columns.items()]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    with path.open("wb") as stream:
        fastavro.writer(stream, {"type": "record", "name": "row", "fields": fields}, rows)


def write_tfrecord(path: Path, columns: dict[str, list[Any]]) -> None:
    data = b""
    for row in zip(*columns.values(), strict=True):
        example = example_type()()
        for name, value in zip(columns, row, strict=True):
            feature = example.features.feature[name]
            if isinstance(value, int):
                feature.int64_list.value.append(value)
            else:
                feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
        data += frame(example.SerializeToString())
    path.write_bytes(data)


WRITERS: dict[str, Writer] = {"parquet": write_parquet, "orc": write_orc, "avro": write_avro, "tfrecord": write_tfrecord}
each_format = pytest.mark.parametrize("format", WRITERS)


@each_format
def test_a_file_that_changed_or_vanished_is_told(format: str, tmp_path: Path) -> None:  # noqa: A002
    for name in ("a", "b"):
        WRITERS[format](tmp_path / name, {"x": [1, 2]})
    source = open_source(format, tmp_path)
    tasks = source.tasks(2**26)
    status = os.stat(tmp_path / "b")
    os.utime(tmp_path / "b", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(InputError, match=r"b: was changed while it was read; run the job again when the input is complete"):
        list(source.read(tasks[0]))
    (tmp_path / "b").unlink()
    with pytest.raises(InputError, match=r"b: can't be read \(No such file or directory\): it was removed after"):
        list(source.read(tasks[0]))


@each_format
def test_a_file_that_changes_while_its_rows_are_taken_is_told(format: str, tmp_path: Path) -> None:  # noqa: A002
    WRITERS[format](tmp_path / "a", {"x": [1, 2]})
    source = open_source(format, tmp_path)
    batches = source.read(source.tasks(2**26)[0])
    next(batches)
    os.utime(tmp_path / "a")
    with pytest.raises(InputError, match=r"a: was changed while it was read"):
        list(batches)


@pytest.mark.parametrize("format", ["parquet", "orc", "avro"])
def test_other_columns_are_told_wherever_they_are_found(
    format: str,  # noqa: A002
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    WRITERS[format](tmp_path / "a", {"x": [1], "y": ["a"]})
    WRITERS[format](tmp_path / "b", {"x": ["1"], "z": ["a"]})
    told = (
        f"{tmp_path}/b: expected the columns of {tmp_path}/a, found others ('x': int64 there, string here; 'y': string there, "
        "none here; 'z': none there, string here)"
    )
    with pytest.raises(InputError) as error:
        open_source(format, tmp_path)
    assert str(error.value) == told
    monkeypatch.setattr(tables, "_CHECKED", 1)
    late = open_source(format, tmp_path)
    with pytest.raises(InputError) as error:
        read(late)
    assert str(error.value) == told


@each_format
def test_hive_partitions(format: str, tmp_path: Path) -> None:  # noqa: A002
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        WRITERS[format](tmp_path / f"day={day}/a", {"x": [day, day]})
    assert read(open_source(format, tmp_path)).select(["x", "day"]).to_pydict() == {"x": [1, 1, 2, 2], "day": [1, 1, 2, 2]}
    only = read(open_source(format, tmp_path, columns=["day"]))
    assert only["day"].to_pylist() == [1, 1, 2, 2]
    assert len(set(only["_source"].to_pylist())) == 4


@each_format
def test_a_large_sample_stays_one_sample(format: str, tmp_path: Path) -> None:  # noqa: A002
    large = bytes(2**20) + b"end"
    many: dict[str, list[Any]] = {"x": [1, 2, 3], "data": [b"a", large * 64, b"b"]}
    WRITERS[format](tmp_path / "a", many)
    source = open_source(format, tmp_path)
    tracemalloc.start()
    sizes = []
    for task in source.tasks(2**20):
        for batch in source.read(task):
            sizes += [value.as_buffer().size for value in batch["data"]]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [1, 64 * len(large), 1]
    assert peak < 6 * 64 * len(large)
    assert len(large) * 64 > BATCH_BYTES


@pytest.mark.parametrize("format", ["parquet", "orc", "avro"])
def test_nulls_inside_lists_are_bad_rows(format: str, tmp_path: Path) -> None:  # noqa: A002
    rows: list[Any] = [{"x": [1.0, None]}, {"x": None}, {"x": []}, {"x": [2.0]}]
    if format == "avro":
        inner = {"type": "array", "items": ["null", "float"]}
        kind = {"type": "record", "name": "row", "fields": [{"name": "x", "type": [inner, "null"]}]}
        with (tmp_path / "a").open("wb") as stream:
            fastavro.writer(stream, kind, rows)
    else:
        WRITERS[format](tmp_path / "a", {"x": pa.array([row["x"] for row in rows], pa.list_(pa.float32()))})
    source = open_source(format, tmp_path)
    batch, rejects = AddKeys(source.schema)(read(source).combine_chunks().to_batches()[0])
    kept, cleaned = Clean(source.schema)(batch)
    assert (rejects.rows, cleaned.reasons) == ([], ["a null inside the array", "null in a field that is not nullable"])
    assert kept.num_rows == 2


def test_small_files_are_not_opened_to_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        write_parquet(tmp_path / f"{number:02d}", {"x": [number]})
    monkeypatch.setattr(tables, "_CHECKED", 5)
    opened: list[str] = []
    from shardwright.sources import parquet

    footer = parquet._footer.__wrapped__

    def count(file: Any) -> Any:
        opened.append(file.name)
        return footer(file)

    monkeypatch.setattr(parquet, "_footer", count)
    source = open_source("parquet", tmp_path)
    tasks = source.tasks(2**26)
    assert set(opened) == {"00", "01", "02", "03", "04"}
    assert read(source)["x"].to_pylist() == list(range(30))
    assert len(tasks) == 1
    assert len(source.tasks(200_000)) > 5
