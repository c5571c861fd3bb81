"""A part's index leads to the right bytes, whatever the kind of column; its own bytes depend on the samples alone."""

from __future__ import annotations

import hashlib
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright.codecs import encode_npy
from shardwright.errors import StorageError
from shardwright.format import part as part_module
from shardwright.format.compression import ZSTD
from shardwright.format.layout import KEY, PAD, Column, columns
from shardwright.format.part import PartWriter, WrittenPart
from shardwright.schema import NUMBERS, Field, Schema

rng = np.random.default_rng(3)
SCHEMA = Schema.model_validate(
    {
        "fields": [
            *({"name": f"n_{dtype}", "dtype": dtype} for dtype in NUMBERS),
            {"name": "array", "dtype": "float32", "shape": (3, 2)},
            {"name": "packed", "dtype": "int16", "shape": (2,), "codec": "raw"},
            {"name": "picture", "dtype": "uint8", "shape": (None, None), "codec": "image"},
            {"name": "zipped", "dtype": "int64"},
            {"name": "text", "dtype": "string"},
            {"name": "blob", "dtype": "bytes", "nullable": True},
            {"name": "maybe", "dtype": "float32", "nullable": True},
            {"name": "ragged", "dtype": "int32", "shape": (None,)},
            {"name": "flag", "dtype": "bool"},
            {"name": "when", "dtype": "timestamp"},
        ]
    }
)
LAYOUT = columns(SCHEMA, compressed={"zipped": ZSTD}, pad=True)


def samples(count: int) -> dict[str, pa.Array]:
    """A column of `count` values for each column of the layout; pictures and texts may be empty."""
    values: dict[str, Any] = {f"n_{dtype}": rng.integers(0, 100, count).astype(dtype) for dtype in NUMBERS}
    values |= {
        "array": [encode_npy(cell) for cell in rng.normal(size=(count, 3, 2)).astype("f4")],
        "packed": [cell.tobytes() for cell in rng.integers(-9, 9, (count, 2)).astype("<i2")],
        "picture": [bytes([row % 256]) * (row % 4 * 100) for row in range(count)],
        "zipped": np.arange(count),
        "text": ["é" * (row % 3) for row in range(count)],
        "blob": [None if row % 3 == 1 else bytes(row % 5) for row in range(count)],
        "maybe": [None if row % 4 == 1 else row / 8 for row in range(count)],
        "ragged": [encode_npy(np.arange(row % 3, dtype="<i4")) for row in range(count)],
        "flag": [row % 3 == 0 for row in range(count)],
        "when": pa.array(np.arange(count), pa.timestamp("us")),
        KEY: [rng.bytes(16) for _ in range(count)],
        PAD: [row == count - 1 for row in range(count)],
    }
    return {c.name: _array(c, values[c.name]) for c in LAYOUT}


def _array(column: Column, values: Any) -> pa.Array:
    plain = column.physical_dtype and not column.nullable
    return pa.array(np.asarray(values, _disk(column)) if plain else values, column.arrow_type)


def _disk(column: Column) -> str:
    return str({"float": "float32", "double": "float64"}.get(str(column.arrow_type), column.arrow_type))


def write(path: Path, data: dict[str, pa.Array], cuts: list[int], layout: tuple[Column, ...] = LAYOUT) -> WrittenPart:
    writer = PartWriter(path, layout)
    for start, stop in pairwise(cuts):
        writer.write([data[column.name].slice(start, stop - start) for column in layout])
    return writer.close()


CUTS = [0, 1, 6, 37]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, pa.Array], WrittenPart]:
    path = tmp_path_factory.mktemp("part") / "part.parquet"
    data = samples(CUTS[-1])
    return path, data, write(path, data, CUTS)


def test_parquet_reads_it(written: tuple[Path, dict[str, pa.Array], WrittenPart]) -> None:
    path, data, part = written
    assert part.row_group_samples == (1, 5, 31)
    assert (part.size, part.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    table = pq.read_table(path, page_checksum_verification=True)
    assert table.schema == pa.schema([column.arrow_field for column in LAYOUT])
    for name, array in data.items():
        assert table[name].combine_chunks().equals(array), name


@pytest.mark.parametrize("column", [c for c in LAYOUT if c.kind == "fixed"], ids=lambda column: column.name)
def test_fixed_values_lie_where_the_extents_say(written: tuple[Path, dict[str, pa.Array], WrittenPart], column: Column) -> None:
    path, data, part = written
    raw = path.read_bytes()
    found = []
    for group, extents in enumerate(part.extents):
        (extent,) = [extent for extent in extents if extent.field == column.name]
        assert (extent.first, extent.count, extent.stride) == (0, part.row_group_samples[group], column.stride)
        found += [raw[extent.offset + i * extent.stride :][: extent.stride] for i in range(extent.count)]
    if column.physical_dtype:
        expected = data[column.name].to_numpy().astype(column.physical_dtype)
        assert np.array_equal(np.frombuffer(b"".join(found), column.physical_dtype), expected)
    else:
        assert found == data[column.name].to_pylist()
        assert all(value.startswith(column.header) for value in found)


def test_ranges_lead_to_encoded_media(written: tuple[Path, dict[str, pa.Array], WrittenPart]) -> None:
    path, data, part = written
    raw = path.read_bytes()
    assert set(part.ranges) == {"picture"}
    starts, ends = np.load(io.BytesIO(part.ranges["picture"]), allow_pickle=False)
    assert [raw[start:end] for start, end in zip(starts, ends, strict=True)] == data["picture"].to_pylist()
    strides = {extent.stride for extents in part.extents for extent in extents if extent.field == "picture"}
    assert strides == {0}


def test_compressed_columns_have_no_extents(written: tuple[Path, dict[str, pa.Array], WrittenPart]) -> None:
    path, _, part = written
    addressed = {column.name for column in LAYOUT if column.kind != "compressed"}
    assert {extent.field for extents in part.extents for extent in extents} == addressed
    group = pq.read_metadata(path).row_group(2)
    for ordinal, column in enumerate(LAYOUT):
        chunk = group.column(ordinal)
        assert chunk.compression == ("ZSTD" if column.kind == "compressed" else "UNCOMPRESSED")
        assert column.kind == "compressed" or set(chunk.encodings) <= {"PLAIN", "RLE"}
        assert column.name != KEY or not chunk.is_stats_set


def test_same_bytes_however_the_arrays_lie_in_memory(
    written: tuple[Path, dict[str, pa.Array], WrittenPart], tmp_path: Path
) -> None:
    path, data, part = written
    shifted = {name: pa.concat_arrays([array.slice(0, 3), array]).slice(3) for name, array in data.items()}
    rebuilt = {name: pa.array(array.to_pylist(), array.type) for name, array in data.items()}
    for number, arrays in enumerate((shifted, rebuilt)):
        again = write(tmp_path / f"{number}.parquet", arrays, CUTS)
        assert (tmp_path / f"{number}.parquet").read_bytes() == path.read_bytes()
        assert again == part


def test_other_row_groups_are_another_part(written: tuple[Path, dict[str, pa.Array], WrittenPart], tmp_path: Path) -> None:
    _, data, part = written
    assert write(tmp_path / "p.parquet", data, [0, 37]).sha256 != part.sha256


def test_many_row_groups(tmp_path: Path) -> None:
    schema = Schema(fields=(Field(name="x", dtype="int64"),))
    layout = columns(schema)
    keys = pa.array([bytes([row % 256] * 16) for row in range(500)], pa.binary(16))
    part = write(tmp_path / "p", {"x": pa.array(range(500)), KEY: keys}, list(range(501)), layout)
    raw = (tmp_path / "p").read_bytes()
    values = [int.from_bytes(raw[extents[0].offset :][:8], "little") for extents in part.extents]
    assert values == list(range(500))


def test_floats_keep_their_bits(tmp_path: Path) -> None:
    """NaNs with a payload, quiet and signalling, are values like any other where non-finite ones are kept."""
    bits = np.array([0x7F800001, 0x7FC00123, 0xFF800000, 0x80000000, 0xFFA00000], "<u4")
    layout = columns(Schema(fields=(Field(name="x", dtype="float32"),)))
    keys = pa.array([bytes(16)] * len(bits), pa.binary(16))
    part = write(tmp_path / "p", {"x": pa.array(bits.view("<f4")), KEY: keys}, [0, 1, len(bits)], layout)
    raw = (tmp_path / "p").read_bytes()
    found = b"".join(raw[extents[0].offset :][: 4 * extents[0].count] for extents in part.extents)
    assert np.array_equal(np.frombuffer(found, "<u4"), bits)


def test_a_page_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_module, "MAX_PAGE_BYTES", 100)
    layout = columns(Schema(fields=(Field(name="x", dtype="int64"),)))
    writer = PartWriter(tmp_path / "p", layout)
    keys = pa.array([bytes(16)] * 20, pa.binary(16))
    with pytest.raises(StorageError, match="field 'x': 160 bytes in one row group, at most 100"):
        writer.write([pa.array(range(20)), keys])
