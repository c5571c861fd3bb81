"""ORC as an input: types, stripes, and what can't be read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc as orc
import pytest

from shardwright.errors import InputError, SchemaError
from shardwright.sources import open_source
from shardwright.sources.base import Source
from shardwright.stages.clean import Clean


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    orc.write_table(pa.table(columns), path, **options)
    return path


def test_types(tmp_path: Path) -> None:
    at = dt.datetime(2024, 2, 29, 12, 0, 0, 7)  # noqa: DTZ001
    row = {
        "i": pa.array([1], pa.int8()), "f": pa.array([0.5], pa.float32()), "b": pa.array([True]), "s": pa.array(["ä"]),
        "raw": pa.array([b"\xff"]), "t": pa.array([at], pa.timestamp("us")), "d": pa.array([at.date()]),
        "list": pa.array([[1, 2]], pa.list_(pa.int32())),
    }  # fmt: skip
    source = open_source("orc", write(tmp_path / "x.orc", row))
    assert [(f.dtype, f.shape) for f in source.schema] == [
        ("int8", ()), ("float32", ()), ("bool", ()), ("string", ()), ("bytes", ()), ("timestamp", ()), ("timestamp", ()),
        ("int32", (None,)),
    ]  # fmt: skip
    batch, rejects = Clean(source.schema)(read(source).combine_chunks().to_batches()[0])
    assert rejects.reasons == []
    found = batch.to_pylist()[0]
    assert (found["t"], found["d"], found["s"], found["raw"]) == (at, dt.datetime(2024, 2, 29), "ä", b"\xff")  # noqa: DTZ001
    path = write(tmp_path / "y.orc", {"x": [1], "pair": [{"a": 1}], "lists": [[[1]]]})
    for name in ("pair", "lists"):
        with pytest.raises(SchemaError, match=rf"column '{name}' has a type that no field can have"):
            open_source("orc", path, columns=["x", name])
    assert read(open_source("orc", path, columns=["x"]))["x"].to_pylist() == [1]


@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "snappy", "lz4", "zstd"])
def test_stripes_are_tasks(tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"x": list(range(150_000)), "s": [f"{number * 7919 % 10007}" for number in range(150_000)]}
    path = write(tmp_path / "x.orc", rows, stripe_size=65536, compression=compression)
    stripes = orc.ORCFile(path).nstripes
    assert stripes > 1
    source = open_source("orc", path)
    monkeypatch.setattr("shardwright.sources.orc.BATCH_BYTES", 400_000)
    whole = read(source)
    assert whole.select(["x", "s"]).to_pydict() == rows
    assert len(source.tasks(1)) == stripes
    assert read(source, 1).equals(whole)
    assert (whole["_source"][0].as_py(), len(whole["_source"].unique())) == ("x.orc#0:0", 150_000)


def test_what_can_not_be_read_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.orc", {"x": list(range(100_000))}, compression="zstd")
    good = path.read_bytes()
    for bad in (b"", b"hello", good[:-1], good[: len(good) // 2], b"ORC" + bytes(100)):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=rf"^{path}: expected an ORC file, found one that can't be read \(.+\)"):
            open_source("orc", path)
    path.write_bytes(good[:3] + bytes(2000) + good[2003:])
    with pytest.raises(InputError, match="expected an ORC file"):
        read(open_source("orc", path))
    write(path, {"x": pa.array([], pa.int64())})
    with pytest.raises(InputError, match=r"x.orc: expected samples, found no row in 1 orc files"):
        open_source("orc", path)
