"""Samples of every kind of field, as reading tasks stage them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardwright.format.compression import ZSTD
from shardwright.format.layout import KEY, Column, columns, sample_type
from shardwright.schema import Schema
from shardwright.spark.exchange import Exchange
from shardwright.spark.gather import LONG_VALUE

SCHEMA = Schema.model_validate(
    {
        "fields": [
            {"name": "small", "dtype": "int16", "shape": (2,)},
            {"name": "long", "dtype": "uint8", "shape": (LONG_VALUE + 1,), "codec": "raw"},
            {"name": "zipped", "dtype": "float32", "shape": (3,)},
            {"name": "number", "dtype": "uint8"},
            {"name": "maybe", "dtype": "int64", "nullable": True},
            {"name": "text", "dtype": "string", "nullable": True},
            {"name": "ragged", "dtype": "int32", "shape": (None,)},
            {"name": "flag", "dtype": "bool"},
        ]
    }
)
LAYOUT = columns(SCHEMA, compressed={"zipped": ZSTD})
STAGED = pa.schema([*((field.name, sample_type(field)) for field in SCHEMA), (KEY, pa.binary(16))])


def batch(first: int, count: int) -> pa.RecordBatch:
    """Samples number `first` and on."""
    rows = range(first, first + count)
    values: dict[str, list[Any]] = {
        "small": [np.array([row, -row], "<i2").tobytes() for row in rows],
        "long": [bytes([row % 251]) * (LONG_VALUE + 1) for row in rows],
        "zipped": [np.full(3, row, "<f4").tobytes() for row in rows],
        "number": [row % 256 for row in rows],
        "maybe": [row if row % 3 else None for row in rows],
        "text": ["é" * (row % 4) if row % 5 else None for row in rows],
        "ragged": [bytes(row % 7) for row in rows],
        "flag": [row % 2 == 0 for row in rows],
        KEY: [row.to_bytes(16, "big") for row in rows],
    }
    return pa.RecordBatch.from_pydict({name: pa.array(values[name], STAGED.field(name).type) for name in STAGED.names})


def stage(exchange: Exchange, files: Sequence[Sequence[int]]) -> pa.Table:
    """Stage files with batches of these sizes; the refs of all samples, numbered on."""
    refs, first = [], 0
    for sizes in files:
        with exchange.staging(STAGED) as staging:
            for size in sizes:
                refs.append(pa.table(staging.stage(batch(first, size)), pa.schema(exchange.columns)))
                first += size
    return pa.concat_tables(refs)


def expected(rows: Sequence[int], column: Column) -> list[Any]:
    values = [batch(row, 1)[column.name][0].as_py() for row in rows]
    return [column.header + value for value in values] if column.header else values
