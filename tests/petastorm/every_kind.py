"""A small dataset with every kind of field, written with pyarrow alone, and what stock Petastorm has to return."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.schema import FLOATS, INTEGERS, DType, Field, Schema

ROWS, ROW_GROUP, SHARDS = 12, 3, 2
PER_SHARD = ROWS // SHARDS
NOT_A_TIME = np.datetime64("NaT")
_DISK = {"uint8": "int16", "uint16": "int32", "uint32": "int64", "float16": "float32"}


@dataclass(frozen=True)
class Case:
    """A field, its column on disk, and per row the values there and from both of Petastorm's readers."""

    field: Field
    column: pa.DataType
    stored: list[Any]
    reader: list[Any]
    batch: list[Any]


def cases() -> list[Case]:
    ids = [np.int64(i) for i in range(ROWS)]
    return [
        Case(Field(name="id", dtype="int64"), pa.int64(), list(range(ROWS)), ids, ids),
        *(_number(dtype, nullable) for dtype in (*INTEGERS, *FLOATS) for nullable in (False, True)),
        *_natives(),
        *_arrays(),
        *_images(),
    ]


def write_shard(directory: Path, shard: int, every: list[Case]) -> Path:
    """One part of two row groups, with the columns that no Unischema names, and a side file."""
    directory.mkdir(parents=True)
    rows = slice(shard * PER_SHARD, (shard + 1) * PER_SHARD)
    columns = [pa.array(case.stored[rows], case.column) for case in every]
    keys = pa.array([bytes([i] * 16) for i in range(PER_SHARD)], pa.binary(16))
    table = pa.Table.from_arrays([*columns, keys, pa.array([False] * PER_SHARD)], schema=arrow_schema(every))
    path = directory / "part-00000.parquet"
    pq.write_table(
        table, path, row_group_size=ROW_GROUP, store_schema=False, use_dictionary=False, compression="zstd",
        write_page_checksum=True,
    )  # fmt: skip
    (directory / "_SHA256SUMS").write_text("")
    return path


def schema(every: list[Case]) -> Schema:
    return Schema(fields=tuple(case.field for case in every))


def arrow_schema(every: list[Case]) -> pa.Schema:
    extra = [pa.field("_key", pa.binary(16), nullable=False), pa.field("_pad", pa.bool_(), nullable=False)]
    return pa.schema([pa.field(c.field.name, c.column, nullable=c.field.nullable) for c in every] + extra)


def _number(dtype: Any, nullable: bool) -> Case:
    disk = _DISK.get(dtype, dtype)
    values: list[Any] = [_nth(dtype, i) for i in range(ROWS)]
    stored = [value.item() for value in values]
    batch = [np.dtype(disk).type(value) for value in values]
    if nullable:
        absent = np.dtype(dtype).type("nan") if dtype in FLOATS else None
        # pandas turns whole numbers with a null among them into floats; every row group here has one.
        type_ = np.dtype(disk).type if dtype in FLOATS else np.float64
        batch = _with_nulls([type_(value) for value in stored], type_("nan"))
        values, stored = _with_nulls(values, absent), _with_nulls(stored)
    name = f"{dtype}_null" if nullable else f"{dtype}_"
    return Case(Field(name=name, dtype=dtype, nullable=nullable), pa.type_for_alias(disk), stored, values, batch)


def _nth(dtype: str, i: int) -> Any:
    if dtype in FLOATS:
        return np.dtype(dtype).type(i / 7)
    info = np.iinfo(dtype)
    return np.dtype(dtype).type(info.max - i if i % 2 else info.min + i)


def _natives() -> list[Case]:
    flags = [i % 2 == 0 for i in range(ROWS)]
    bools = [np.bool_(flag) for flag in flags]
    texts = [f"row {i} é中" for i in range(ROWS)]
    blobs = [bytes([0, i, 255, 0]) for i in range(ROWS)]
    moments = [np.datetime64("1969-12-31T23:59:58.123456") + np.timedelta64(i, "s") for i in range(ROWS)]
    whens = [moment.item() for moment in moments]
    nulls, holes, no_times = _with_nulls(texts), _with_nulls(blobs), _with_nulls(moments, NOT_A_TIME)
    return [
        Case(Field(name="flag", dtype="bool"), pa.bool_(), flags, bools, bools),
        Case(_nullable("flag_null", "bool"), pa.bool_(), _with_nulls(flags), _with_nulls(bools), _with_nulls(flags)),
        Case(Field(name="text", dtype="string"), pa.string(), texts, texts, texts),
        # make_batch_reader turns strings into a NumPy array of str, and with them None into its name
        Case(_nullable("text_null", "string"), pa.string(), nulls, nulls, _with_nulls(texts, "None")),
        Case(Field(name="blob", dtype="bytes"), pa.binary(), blobs, blobs, blobs),
        Case(_nullable("blob_null", "bytes"), pa.binary(), holes, holes, holes),
        Case(Field(name="time", dtype="timestamp"), pa.timestamp("us"), whens, moments, moments),
        Case(_nullable("time_null", "timestamp"), pa.timestamp("us"), _with_nulls(whens), no_times, no_times),
        # names that are members of Petastorm's Unischema
        Case(Field(name="fields", dtype="string"), pa.string(), texts, texts, texts),
        Case(Field(name="make_namedtuple", dtype="bool"), pa.bool_(), flags, bools, bools),
    ]


def _arrays() -> list[Case]:
    fixed: list[tuple[DType, tuple[int, ...]]] = [
        ("uint8", (4, 5, 3)), ("bool", (4,)), ("float16", (3,)), ("uint16", (2, 1, 2)),
        ("int64", (300,)), ("float64", (2, 2)),
    ]  # fmt: skip
    result = []
    for dtype, shape in fixed:
        values = [_array(dtype, shape, i) for i in range(ROWS)]
        field = Field(name=f"npy_{dtype}", dtype=dtype, shape=shape)
        cells = [_npy(value) for value in values]
        result.append(Case(field, pa.binary(len(cells[0])), cells, values, cells))
    ragged = [_array("float32", (i % 4, 3), i) for i in range(ROWS)]
    cells = [_npy(value) for value in ragged]
    result.append(Case(Field(name="ragged", dtype="float32", shape=(None, 3)), pa.binary(), cells, ragged, cells))
    optional = _with_nulls([_array("int32", (2,), i) for i in range(ROWS)])
    holes = [None if value is None else _npy(value) for value in optional]
    field = Field(name="npy_null", dtype="int32", shape=(2,), nullable=True)
    result.append(Case(field, pa.binary(), holes, optional, holes))
    raw = [_array("float32", (3,), i).tobytes() for i in range(ROWS)]
    field = Field.model_validate({"name": "raw", "dtype": "float32", "shape": (3,), "codec": "raw"})
    return [*result, Case(field, pa.binary(12), raw, raw, raw)]


def _images() -> list[Case]:
    photos = [_array("uint8", (16 + i, 24, 3), i) for i in range(ROWS)]
    mixed = [imagecodecs.jpeg_encode(v, level=90) if i % 2 else imagecodecs.png_encode(v) for i, v in enumerate(photos)]
    decoded = [np.asarray(imagecodecs.imread(bytes(data))) for data in mixed]
    result = [Case(_image("photo", "uint8", (None, None, 3)), pa.binary(), mixed, decoded, mixed)]
    for name, dtype, shape in (("grey", "uint8", (8, 9, 1)), ("deep", "uint16", (8, 9))):
        values = [_array(dtype, (8, 9), i) for i in range(ROWS)]
        cells = [imagecodecs.png_encode(value) for value in values]
        result.append(Case(_image(name, dtype, shape), pa.binary(), cells, values, cells))
    holes = _with_nulls(mixed)
    field = _image("photo_null", "uint8", (None, None, 3), nullable=True)
    return [*result, Case(field, pa.binary(), holes, _with_nulls(decoded), holes)]


def _image(name: str, dtype: str, shape: tuple[int | None, ...], nullable: bool = False) -> Field:
    return Field.model_validate({"name": name, "dtype": dtype, "shape": shape, "codec": "image", "nullable": nullable})


def _nullable(name: str, dtype: DType) -> Field:
    return Field(name=name, dtype=dtype, nullable=True)


def _with_nulls(values: list[Any], absent: Any = None) -> list[Any]:
    return [absent if i % ROW_GROUP == 1 else value for i, value in enumerate(values)]


def _array(dtype: str, shape: tuple[int, ...], i: int) -> np.ndarray:
    ramp = np.arange(np.prod(shape, dtype=int)).reshape(shape) * 3 + i
    return (ramp % 2 == 0) if dtype == "bool" else (ramp % 251).astype(dtype)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
