"""Avro as an input: types, codecs, cuts at the sync markers, and what can't be read. fastavro's own writer is the oracle."""

from __future__ import annotations

import datetime as dt
import io
import json
import zlib
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from shardwright.errors import InputError, SchemaError
from shardwright.sources import open_source, sync_markers
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean

ROWS = [{"x": number, "s": f"ä{number} " * (number % 9)} for number in range(3000)]
XS: Any = {"type": "record", "name": "row", "fields": [{"name": "x", "type": "long"}, {"name": "s", "type": "string"}]}


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def write(path: Path, fields: Any, rows: list[dict[str, Any]], **options: Any) -> Path:
    schema = fields if isinstance(fields, dict) else {"type": "record", "name": "row", "namespace": "org.x", "fields": fields}
    with path.open("wb") as stream:
        fastavro.writer(stream, schema, rows, **options)
    return path


def test_types(tmp_path: Path) -> None:
    day = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    kind = {"type": "enum", "name": "kind", "symbols": ["a", "b"]}
    fields = [
        {"name": name, "type": described}
        for name, described in {
            "i": "int", "f": "float", "d": "double", "b": "boolean", "raw": "bytes", "maybe": ["null", "long"],
            "ms": {"type": "long", "logicalType": "timestamp-millis"},
            "us": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "date": {"type": "int", "logicalType": "date"},
            "list": {"type": "array", "items": "float"}, "four": {"type": "fixed", "name": "four", "size": 4}, "kind": kind,
            "again": "kind", "full": ["org.x.kind", "null"], "one": ["string"], "id": {"type": "string", "logicalType": "uuid"},
        }.items()
    ]  # fmt: skip
    row = {"i": 1, "f": 0.5, "d": 0.1, "b": True, "raw": b"\xff", "maybe": None, "ms": day, "us": day, "date": day.date(),
           "list": [1, 2], "four": b"abcd", "kind": "b", "again": "a", "full": "b", "one": "o", "id": "i"}  # fmt: skip
    source = open_source("avro", write(tmp_path / "x.avro", fields, [row]), fields={"maybe": {"nullable": True}})
    assert {f.name: (f.dtype, f.shape) for f in source.schema} == {
        "i": ("int32", ()), "f": ("float32", ()), "d": ("float64", ()), "b": ("bool", ()), "raw": ("bytes", ()),
        "maybe": ("int64", ()), "ms": ("timestamp", ()), "us": ("timestamp", ()), "date": ("timestamp", ()),
        "list": ("float32", (None,)), "four": ("bytes", ()), "kind": ("string", ()), "again": ("string", ()),
        "full": ("string", ()), "one": ("string", ()), "id": ("string", ()),
    }  # fmt: skip
    batch, rejects = Clean(source.schema)(read(source).combine_chunks().to_batches()[0])
    assert rejects.reasons == []
    found = batch.to_pylist()[0]
    naive = day.replace(tzinfo=None)
    assert {**found, "list": None} == {
        **row, "list": None, "ms": naive, "us": naive, "date": dt.datetime(2024, 2, 29), "_reject": None,  # noqa: DTZ001
        "_source": found["_source"],
    }  # fmt: skip


def test_what_can_not_be_a_field_is_left_out_by_name(tmp_path: Path) -> None:
    inner = {"type": "record", "name": "inner", "fields": [{"name": "a", "type": "int"}]}
    kinds = {
        "record": inner,
        "map": {"type": "map", "values": "int"},
        "union": ["int", "string"],
        "twice": {"type": "array", "items": inner},
        "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
    }
    for name, described in kinds.items():
        fields = [{"name": "x", "type": "int"}, {"name": name, "type": described}]
        value = {"record": {"a": 1}, "map": {"a": 1}, "union": 1, "twice": [], "decimal": b"\1"}[name]
        path = write(tmp_path / "x.avro", fields, [{"x": 1, name: value}])
        with pytest.raises(
            SchemaError, match=rf"column '{name}' has a type that no field can have \(.*\); leave it out by read.columns"
        ):
            open_source("avro", path)
        assert read(open_source("avro", path, columns=["x"]))["x"].to_pylist() == [1]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_every_cut_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    path = write(tmp_path / "x.avro", XS, ROWS, codec=codec, sync_interval=1000)
    monkeypatch.setattr(sync_markers, "PIECE_BYTES", 700)
    source = open_source("avro", path)
    whole = read(source)
    assert whole.select(["x", "s"]).to_pylist() == ROWS
    assert len(set(whole["_source"].to_pylist())) == len(ROWS)
    for task_bytes in (1, 1500):
        assert len(source.tasks(task_bytes)) > 3
        assert read(source, task_bytes).equals(whole)


@pytest.mark.parametrize("codec", ["snappy", "zstandard"])
def test_codecs_that_the_writer_needs_packages_for(tmp_path: Path, codec: str) -> None:
    """The container is put together here: the codec's name in the header, and a compressed block."""
    plain = write(tmp_path / "plain", XS, ROWS, codec="null", sync_interval=2**30).read_bytes()
    marker = plain[-16:]
    start = plain.index(marker) + 16
    body = io.BytesIO(plain[start:-16])
    count, size = (int(str(fastavro.schemaless_reader(body, "long", None))) for _ in range(2))
    data = body.read(size)
    pressed = pa.Codec({"zstandard": "zstd"}.get(codec, codec)).compress(data, asbytes=True)
    pressed += zlib.crc32(data).to_bytes(4, "big") if codec == "snappy" else b""
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, {"type": "map", "values": "bytes"}, {"avro.schema": json.dumps(XS).encode(), "avro.codec": codec.encode()}
    )
    header = b"Obj\x01" + out.getvalue() + marker
    out = io.BytesIO()
    for number in (count, len(pressed)):
        fastavro.schemaless_writer(out, "long", number)
    path = tmp_path / "x.avro"
    path.write_bytes(header + out.getvalue() + pressed + marker)
    assert read(open_source("avro", path)).select(["x", "s"]).to_pylist() == ROWS
    if codec == "snappy":
        path.write_bytes(path.read_bytes()[:-17] + b"\0" + marker)
        with pytest.raises(InputError, match="a block has another checksum"):
            read(open_source("avro", path))


def test_damage_is_told(tmp_path: Path) -> None:
    good = write(tmp_path / "x.avro", XS, ROWS, sync_interval=1000).read_bytes()
    path = tmp_path / "bad.avro"
    for bad, problem in (
        (b"", "Expected 4 bytes, read 0"), (b"x" * 99, "."), (good[:60], "."),
        (good[:-1], "says that it holds .* bytes, the file ends"),
        (good[:-5] + b"12345", "no sync marker after the block at byte"),
        (good.replace(b"null", b"nope"), "codec 'nope'; known: null, deflate, snappy"),
    ):  # fmt: skip
        path.write_bytes(bad)
        with pytest.raises(
            InputError, match=rf"^{path}: expected an Avro file, found one that can't be read \(.*{problem}.*\)$"
        ):
            read(open_source("avro", path))
    with path.open("wb") as stream:
        fastavro.writer(stream, "long", [1])
    with pytest.raises(InputError, match="its schema is no record"):
        open_source("avro", path)


def test_every_cut_off_file_is_told_or_ends_between_blocks(tmp_path: Path) -> None:
    good = write(tmp_path / "x.avro", XS, ROWS[:50], sync_interval=100).read_bytes()
    counts = set()
    for size in range(0, len(good), 7):
        (tmp_path / "x.avro").write_bytes(good[:size])
        try:
            source = open_source("avro", tmp_path / "x.avro")
            counts.add(sum(batch.num_rows for task in source.tasks(2**26) for batch in source.read(task)))
        except InputError as error:
            assert "expected an Avro file, found one that can't be read" in str(error)  # noqa: PT017
    assert all(count < 50 for count in counts)


def test_a_string_that_is_none_is_one_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.avro", XS, [{"x": 1, "s": "abc"}, {"x": 2, "s": "def"}])
    path.write_bytes(path.read_bytes().replace(b"abc", b"a\xffc"))
    assert read(open_source("avro", path))["_reject"].to_pylist() == ["a string that is no UTF-8", None]
