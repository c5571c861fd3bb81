"""SequenceFiles as Hadoop itself writes them: every class and codec, wherever they are cut; and what can't be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from shardwright.errors import InputError
from shardwright.sources import open_source, sync_markers
from shardwright.sources.base import Source

OUTPUT = "org.apache.hadoop.mapred.SequenceFileOutputFormat"
CODEC = "org.apache.hadoop.io.compress."
ROWS = [(number * 7919 - 2**30, f"ä{number} " + "x" * (number % 300)) for number in range(2000)]


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def save(spark: SparkSession, folder: Path, rows: list[tuple[Any, Any]], codec: str | None = None, kind: str = "BLOCK") -> Path:
    option = "mapreduce.output.fileoutputformat.compress"
    conf = {option: str(codec is not None).lower(), f"{option}.codec": f"{CODEC}{codec}", f"{option}.type": kind}
    spark.sparkContext.parallelize(rows, 1).saveAsHadoopFile(f"file://{folder}", OUTPUT, conf=conf if codec else None)
    return folder


@pytest.mark.parametrize(
    "codec, kind",
    [(None, "NONE"), *((codec, kind) for codec in ("DefaultCodec", "BZip2Codec", "Lz4Codec", "SnappyCodec", "GzipCodec")
                       for kind in ("RECORD", "BLOCK"))],
)  # fmt: skip
def test_every_codec_wherever_it_is_cut(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str | None, kind: str
) -> None:
    folder = save(spark, tmp_path / "in", ROWS, codec, kind)
    monkeypatch.setattr(sync_markers, "PIECE_BYTES", 10_000)
    source = open_source("sequencefile", folder)
    assert [(f.name, f.dtype) for f in source.schema] == [("key", "int32"), ("value", "string")]
    header = (folder / "part-00000").read_bytes()[:200]
    assert b"org.apache.hadoop.io.Text" + bytes([codec is not None, kind == "BLOCK"]) in header
    assert codec is None or codec.encode() in header
    whole = read(source)
    assert list(zip(whole["key"].to_pylist(), whole["value"].to_pylist(), strict=True)) == ROWS
    for task_bytes in (1, 25_000):
        assert read(source, task_bytes).equals(whole)
    assert len(set(whole["_source"].to_pylist())) == len(ROWS)
    assert re.fullmatch(r"part-00000@\d+(:\d+)?", whole["_source"][7].as_py())


@pytest.mark.parametrize(
    "row, types",
    [
        ((1, True), ["int32", "bool"]),
        ((2**40, None), ["int64"]),
        ((0.1, b"\xff\x00"), ["float64", "bytes"]),
        ((None, "a"), ["string"]),
    ],
)
def test_every_class(spark: SparkSession, tmp_path: Path, row: tuple[Any, Any], types: list[str]) -> None:
    source = open_source("sequencefile", save(spark, tmp_path / "in", [row, row]))
    assert [field.dtype for field in source.schema] == types
    table = read(source)
    for name, value in zip(("key", "value"), row, strict=True):
        assert (table[name].to_pylist() if value is not None else name in table.schema.names) == (
            [value] * 2 if value is not None else False
        )


def test_what_can_not_be_read(spark: SparkSession, tmp_path: Path) -> None:
    path = save(spark, tmp_path / "in", ROWS, "DefaultCodec", "RECORD") / "part-00000"
    data = path.read_bytes()
    at = data.index(b"\0\0\0\x04", 100)  # the length of a key
    for bad, problem in (
        (b"", "it begins with b''"), (b"text" * 9, "it begins with b'text'"), (b"SEQ\x04" + data[4:], "version b'.x04'"),
        (data[:50], "expected 25 bytes from byte"), (data[:-1], "expected .* bytes from byte .*, the file has"),
        (data[: at + 2], "cut short at byte"), (data[:at] + b"\x7f" + data[at + 1 :], "the record at byte .* is said to have"),
    ):  # fmt: skip
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(InputError, match=rf"bad: expected a SequenceFile, found one that can't be read \(.*{problem}"):
            read(open_source("sequencefile", tmp_path / "bad"))
    (tmp_path / "bad").write_bytes(data.replace(b"IntWritable", b"MapWritable"))
    with pytest.raises(
        InputError, match=r"whose keys are org.apache.hadoop.io.MapWritable; can be read, of .*: .*BytesWritable"
    ):
        open_source("sequencefile", tmp_path / "bad")
    (tmp_path / "bad").write_bytes(data.replace(b"DefaultCodec", b"UnknownCodec"))
    with pytest.raises(InputError, match=r"of codec org.apache.hadoop.io.compress.UnknownCodec; can be read: .*GzipCodec"):
        open_source("sequencefile", tmp_path / "bad")


def test_a_bad_value_is_one_bad_row(spark: SparkSession, tmp_path: Path) -> None:
    path = save(spark, tmp_path / "in", [(1, "abc"), (2, "def")], kind="NONE") / "part-00000"
    path.write_bytes(path.read_bytes().replace(b"\x03abc", b"\x03ab\xff"))
    table = read(open_source("sequencefile", tmp_path / "in"))
    assert table["_reject"].to_pylist()[1] is None
    assert table["_reject"][0].as_py().startswith("value: no Text ('utf-8' codec can't decode byte 0xff")
    assert table["value"].to_pylist() == [None, "def"]
