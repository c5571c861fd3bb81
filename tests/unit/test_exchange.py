"""What was staged comes back, in any order asked for, from any number of files and batches."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.errors import StorageError
from shardwright.format.compression import ZSTD
from shardwright.format.layout import KEY, Column, columns, sample_type
from shardwright.schema import Schema
from shardwright.spark.exchange import LONG_VALUE, StagedExchange

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


def stage(directory: Path, files: Sequence[Sequence[int]]) -> tuple[StagedExchange, pa.Table]:
    """Files with batches of these sizes; the refs of all samples, numbered on."""
    exchange, refs, first = StagedExchange(directory), [], 0
    for sizes in files:
        with exchange.staging(STAGED) as staging:
            for size in sizes:
                refs.append(pa.table(staging.stage(batch(first, size)), pa.schema(exchange.columns)))
                first += size
    return exchange, pa.concat_tables(refs)


def expected(rows: Sequence[int], column: Column) -> list[Any]:
    values = [batch(row, 1)[column.name][0].as_py() for row in rows]
    return [column.header + value for value in values] if column.header else values


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_from_any_files_and_batches(files: list[list[int]], data: st.DataObject) -> None:
    total = sum(map(sum, files))
    rows = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=30))  # some twice, as pads are
    with tempfile.TemporaryDirectory() as directory:
        exchange, refs = stage(Path(directory), files)
        found = exchange.fetch(refs.take(pa.array(rows)), LAYOUT)
        for column, array in zip(LAYOUT, found, strict=True):
            assert array.to_pylist() == expected(rows, column), column.name
            if column.kind == "fixed" and column.physical_dtype is None:
                assert array.type == column.arrow_type


def test_a_few_columns(tmp_path: Path) -> None:
    exchange, refs = stage(tmp_path, [[3], [2]])
    some = [column for column in LAYOUT if column.name in ("text", KEY)]
    text, key = exchange.fetch(refs, some)
    assert text.to_pylist() == expected(range(5), some[0])
    assert key.to_pylist() == expected(range(5), some[1])


def test_it_travels_without_its_memory_maps(tmp_path: Path) -> None:
    exchange, refs = stage(tmp_path, [[4]])
    exchange.fetch(refs, LAYOUT)
    state = exchange.__getstate__()
    assert state["_opened"] == {}
    other = StagedExchange.__new__(StagedExchange)
    vars(other).update(state)
    assert other.fetch(refs, LAYOUT[:1])[0].to_pylist() == expected(range(4), LAYOUT[0])


def test_every_attempt_has_a_file_of_its_own(tmp_path: Path) -> None:
    stage(tmp_path, [[1], [1]])
    assert len(list(tmp_path.iterdir())) == 2


def test_no_space_left(tmp_path: Path) -> None:
    exchange = StagedExchange(tmp_path)
    with pytest.raises(StorageError, match="no space left while writing"), exchange.staging(STAGED):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
