"""What was staged comes back, in any order asked for, from any number of files and batches."""

from __future__ import annotations

import copy
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.errors import StorageError
from shardwright.format.layout import KEY
from shardwright.spark.exchange import Exchange, StagedExchange
from shardwright.spark.shuffled import ShuffledExchange
from shardwright.storage import LocalStorage
from tests.unit.staged_samples import LAYOUT, SCHEMA, STAGED, expected, stage


def staged(directory: Path | str) -> Exchange:
    return StagedExchange(LocalStorage(directory))


def shuffled(directory: Path | str) -> Exchange:
    return ShuffledExchange(LocalStorage(directory), SCHEMA)


both = pytest.mark.parametrize("make", [staged, shuffled])


@both
@given(files=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_from_any_files_and_batches(
    make: Callable[[str], Exchange], files: list[list[int]], data: st.DataObject
) -> None:
    total = sum(map(sum, files))
    rows = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=30))  # some twice, as pads are
    with tempfile.TemporaryDirectory() as directory:
        exchange = make(directory)
        refs = stage(exchange, files)
        found = exchange.fetch(refs.take(pa.array(rows)), LAYOUT)
        for column, array in zip(LAYOUT, found, strict=True):
            assert array.to_pylist() == expected(rows, column), column.name
            if column.kind == "fixed" and column.physical_dtype is None:
                assert array.type == column.arrow_type


@both
def test_a_few_columns(make: Callable[[Path], Exchange], tmp_path: Path) -> None:
    exchange = make(tmp_path)
    refs = stage(exchange, [[3], [2]])
    some = [column for column in LAYOUT if column.name in ("text", KEY)]
    text, key = exchange.fetch(refs, some)
    assert text.to_pylist() == expected(range(5), some[0])
    assert key.to_pylist() == expected(range(5), some[1])


@both
def test_it_travels_without_what_it_opened(make: Callable[[Path], Exchange], tmp_path: Path) -> None:
    exchange = make(tmp_path)
    refs = stage(exchange, [[4]])
    exchange.fetch(refs, LAYOUT)
    other = copy.copy(exchange)  # by way of `__getstate__`, as pickle does
    assert not any(vars(other)[name] for name in ("_opened", "_last") if name in vars(other))
    assert other.fetch(refs, LAYOUT[:1])[0].to_pylist() == expected(range(4), LAYOUT[0])


@both
def test_every_attempt_has_a_file_of_its_own(make: Callable[[Path], Exchange], tmp_path: Path) -> None:
    stage(make(tmp_path), [[1], [1]])
    assert len(list(tmp_path.iterdir())) == 2


@both
def test_no_space_left(make: Callable[[Path], Exchange], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left while writing"), make(tmp_path).staging(STAGED):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
