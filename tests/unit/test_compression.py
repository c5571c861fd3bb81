"""Columns that Parquet compresses: each codec with its level, what the writer reports, and what DuckDB and pyarrow read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from shardwright.format.compression import ZSTD, ColumnCodec
from shardwright.format.layout import KEY, columns
from shardwright.format.part import PartWriter, WrittenPart
from shardwright.schema import Schema

CODECS = [
    ColumnCodec(name="zstd", level=9), ColumnCodec(name="gzip"), ColumnCodec(name="gzip", level=9), ColumnCodec(name="lz4"),
    ColumnCodec(name="lz4", level=9), ColumnCodec(name="snappy"), ColumnCodec(name="brotli"), ColumnCodec(name="none"),
]  # fmt: skip
ON_DISK = {"lz4": "LZ4_RAW", "none": "UNCOMPRESSED"}
SCHEMA = Schema.model_validate(
    {
        "fields": [
            {"name": "number", "dtype": "int64"},
            {"name": "text", "dtype": "string"},
            {"name": "maybe", "dtype": "float64", "nullable": True},
            {"name": "vector", "dtype": "float32", "shape": (4,)},
        ]
    }
)
ROWS = 2000


def write(path: Path, **options: Any) -> tuple[WrittenPart, dict[str, pa.Array]]:
    layout = columns(SCHEMA, **options)
    header = {column.name: column.header for column in layout}["vector"]
    arrays = {
        "number": pa.array(np.arange(ROWS)),
        "text": pa.array([f"text {row % 50}" for row in range(ROWS)]),
        "maybe": pa.array([None if row % 3 == 0 else row / 8 for row in range(ROWS)]),
        "vector": pa.array([header + np.full(4, row % 9, "f4").tobytes() for row in range(ROWS)], pa.binary(len(header) + 16)),
        KEY: pa.array([row.to_bytes(16) for row in range(ROWS)], pa.binary(16)),
    }
    writer = PartWriter(path, layout)
    for start in (0, 700):
        writer.write([arrays[column.name].slice(start, 700 if start == 0 else None) for column in layout])
    return writer.close(), arrays


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_every_codec_of_columns(tmp_path: Path, codec: ColumnCodec) -> None:
    path = tmp_path / "part.parquet"
    part, arrays = write(path, compressed={"number": codec, "vector": codec}, default=codec)
    found = duckdb.execute("select path_in_schema, compression from parquet_metadata(?)", [str(path)]).fetchall()
    compressed = {name for name, kind in found if kind == ON_DISK.get(codec.name, codec.name.upper())}
    assert compressed == ({*arrays} if codec.name == "none" else {*arrays} - {KEY})
    addressed = {extent.field for extents in part.extents for extent in extents}
    assert addressed == ({KEY, "number", "vector"} if codec.name == "none" else {KEY})
    table = pq.read_table(path, page_checksum_verification=True)
    duck = duckdb.execute("select number, text, maybe, vector from read_parquet(?) order by number", [str(path)]).fetchall()
    for name in SCHEMA.names:
        assert table[name].combine_chunks().equals(arrays[name]), name
    assert duck == list(zip(*(arrays[name].to_pylist() for name in SCHEMA.names), strict=True))


def test_one_codec_for_each_column(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    chosen = {
        "text": ColumnCodec(name="gzip", level=9),
        "vector": ColumnCodec(name="brotli", level=1),
        "maybe": ColumnCodec(name="none"),
    }
    part, arrays = write(path, compressed=chosen)
    group = pq.read_metadata(path).row_group(0)
    kinds = {group.column(number).path_in_schema: group.column(number).compression for number in range(group.num_columns)}
    assert kinds == {"number": "UNCOMPRESSED", "text": "GZIP", "maybe": "UNCOMPRESSED", "vector": "BROTLI", KEY: "UNCOMPRESSED"}
    assert {extent.field for extents in part.extents for extent in extents} == {"number", KEY}
    assert pq.read_table(path)["vector"].combine_chunks().equals(arrays["vector"])


def test_the_writer_reports_what_compression_made_of_each_column(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    part, arrays = write(path, compressed={"vector": ZSTD})
    assert list(part.column_bytes) == [*arrays]
    assert sum(stored for _, stored in part.column_bytes.values()) < part.size
    raw, stored = part.column_bytes["vector"]
    assert arrays["vector"].nbytes < raw < arrays["vector"].nbytes + 200
    assert stored < raw / 10
    for name in ("number", KEY):
        raw, stored = part.column_bytes[name]
        assert raw == stored >= arrays[name].nbytes


def test_a_higher_level_is_smaller(tmp_path: Path) -> None:
    def size(level: int) -> int:
        part, _ = write(tmp_path / f"{level}.parquet", compressed={"number": ColumnCodec(name="gzip", level=level)})
        return part.column_bytes["number"][1]

    assert size(9) < size(1)


def test_a_codec_by_its_name() -> None:
    assert ColumnCodec.model_validate("zlib") == ColumnCodec(name="gzip")
    assert ColumnCodec.model_validate({"name": "zlib", "level": 9}) == ColumnCodec(name="gzip", level=9)
    assert [ColumnCodec.model_validate(name).effective_level for name in ("zstd", "gzip", "lz4", "snappy")] == [
        3,
        6,
        None,
        None,
    ]
    assert [codec.name for codec in CODECS if not codec.spark_reads] == ["brotli"]


@pytest.mark.parametrize(
    "values, message",
    [
        ("lzma", "Input should be 'zstd', 'gzip', 'lz4', 'snappy', 'brotli' or 'none'"),
        ({"name": "snappy", "level": 1}, "snappy has no levels, found 1; leave the level out"),
        ({"name": "none", "level": 1}, "none has no levels"),
        ({"name": "zstd", "level": 23}, "zstd has the levels 1 to 22, found 23"),
        ({"name": "zlib", "level": 0}, "gzip has the levels 1 to 9, found 0"),
        ({"name": "brotli", "level": 12}, "brotli has the levels 0 to 11, found 12"),
        ({"name": "zstd", "levels": 2}, "Extra inputs are not permitted"),
    ],
)
def test_codecs_that_can_not_be(values: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ColumnCodec.model_validate(values)
