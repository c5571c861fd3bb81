"""Samples that go through the shuffle: all arrive where they are sent, as they were, however they are cut."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwright.schema import Field, Schema
from shardwright.spark import shuffled
from shardwright.spark.encoding import bare_column
from shardwright.spark.exchange import StagedExchange
from shardwright.spark.shuffled import ShuffledExchange
from shardwright.storage import LocalStorage
from tests.unit.staged_samples import LAYOUT, SCHEMA, expected, stage

HEAD = pa.schema([("part", pa.int32()), ("key", pa.binary()), ("bytes", pa.int64())])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, blobs and staged batches of a few samples."""
    monkeypatch.setattr(shuffled, "CHUNK_BYTES", 40_000)
    monkeypatch.setattr(shuffled, "BLOB_BYTES", 15_000)


def rows_of(refs: pa.Table, parts: Sequence[int], sizes: Sequence[int]) -> list[pa.RecordBatch]:
    """Rows to send: each names its part, and the number of the sample as key."""
    head = [pa.array(parts, pa.int32()), pa.array([b"%d" % n for n in range(len(parts))], pa.binary()), pa.array(sizes)]
    table = pa.Table.from_arrays([*head, *refs.columns], schema=pa.schema([*HEAD, *refs.schema]))
    return cast("list[pa.RecordBatch]", table.combine_chunks().to_batches(max_chunksize=7))


def sent(exchange: ShuffledExchange, rows: Sequence[pa.RecordBatch]) -> dict[int, list[pa.RecordBatch]]:
    """What each task gets, in the order in which it was sent."""
    out: dict[int, list[pa.RecordBatch]] = {}
    for blobs in exchange.send(iter(rows), HEAD):
        assert blobs.schema == exchange.sent(HEAD)
        for number in range(blobs.num_rows):
            out.setdefault(blobs["part"][number].as_py(), []).append(blobs.slice(number, 1))
    return out


@given(files=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_sample_gets_to_its_part_as_it_was(files: list[list[int]], data: st.DataObject) -> None:
    total = sum(map(sum, files))
    parts = data.draw(st.lists(st.integers(0, 3), min_size=total, max_size=total))
    with tempfile.TemporaryDirectory() as directory:
        exchange = ShuffledExchange(LocalStorage(directory), SCHEMA)
        refs = stage(exchange, files)
        for part, blobs in sent(exchange, rows_of(refs, parts, [4_300] * total)).items():
            mine = [number for number in range(total) if parts[number] == part]
            with exchange.receive(iter(blobs[::-1]), HEAD) as (table, samples):  # blobs come in any order
                assert table.column_names == [*HEAD.names, *(field.name for field in StagedExchange.columns)]
                assert set(table["part"].to_pylist()) == {part}
                numbers = [int(key) for key in table["key"].to_pylist()]
                assert sorted(numbers) == mine
                order = data.draw(st.permutations(range(len(mine))))
                found = samples.fetch(table.take(pa.array(order)), LAYOUT[:-1])
            for column, array in zip(LAYOUT[:-1], found, strict=True):
                assert array.to_pylist() == expected([numbers[row] for row in order], column), column.name


def test_few_large_blobs_none_above_the_limit_unless_alone(tmp_path: Path) -> None:
    exchange = ShuffledExchange(LocalStorage(tmp_path), SCHEMA)
    refs = stage(exchange, [[20, 20]])
    sizes = [4_300] * 39 + [16_000]
    blobs = [blob for own in sent(exchange, rows_of(refs, [0, 1] * 20, sizes)).values() for blob in own]
    lengths = [len(blob["samples"][0].as_py()) for blob in blobs]
    assert max(lengths) < 16_000
    assert len(blobs) < 25  # of 40 samples, three in a blob, where a chunk has so many for one part


def test_what_was_staged_is_read_once_and_a_piece_at_a_time(tmp_path: Path) -> None:
    class Watched(LocalStorage):
        """Counts what is read of each file."""

        read_bytes = Counter[str]()

        def open(self, name: str) -> BinaryIO:
            counted = self.read_bytes

            class File(io.FileIO):
                def readinto(self, buffer: Any) -> int | None:
                    count = super().readinto(buffer)
                    counted[name] += count or 0
                    return count

            return cast(BinaryIO, io.BufferedReader(File(str(self.local_path(name))), 512))

        def child(self, name: str) -> Watched:
            return Watched(self.local_path(name))

    storage = Watched(tmp_path)
    exchange = ShuffledExchange(storage, SCHEMA)
    refs = stage(exchange, [[30, 31], [29]])
    parts = np.random.default_rng(1).integers(0, 4, 90).tolist()
    sent(exchange, rows_of(refs, parts, [4_300] * 90))
    sizes = storage.files()
    assert storage.read_bytes.keys() == sizes.keys()
    for name, size in sizes.items():
        assert storage.read_bytes[name] < 1.5 * size  # and footers, and batches that two chunks share


def test_fields_may_be_called_as_what_goes_along(tmp_path: Path) -> None:
    schema = Schema(fields=tuple(Field(name=name, dtype="int32") for name in ("part", "key", "bytes", "file", "row")))
    exchange = ShuffledExchange(LocalStorage(tmp_path), schema)
    names = pa.schema([(field.name, pa.int32()) for field in schema])
    samples = pa.RecordBatch.from_arrays([pa.array([10 * n, 10 * n + 1], pa.int32()) for n in range(5)], schema=names)
    with exchange.staging(names) as staging:
        refs = pa.table(staging.stage(samples), pa.schema(exchange.columns))
    blobs = sent(exchange, rows_of(refs, [3, 3], [36, 36]))[3]
    with exchange.receive(iter(blobs), HEAD) as (table, fetch):
        assert table["key"].to_pylist() == [b"0", b"1"]
        found = fetch.fetch(table, [bare_column(field) for field in schema])
    assert [array.to_pylist() for array in found] == [[10 * n, 10 * n + 1] for n in range(5)]


def test_a_task_without_samples(tmp_path: Path) -> None:
    none: Iterator[pa.RecordBatch] = iter(())
    with ShuffledExchange(LocalStorage(tmp_path), SCHEMA).receive(none, HEAD) as (table, _):
        assert (table.num_rows, table.column_names[:3]) == (0, HEAD.names)


def test_nothing_is_left_on_the_local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    exchange = ShuffledExchange(LocalStorage(tmp_path / "staged"), SCHEMA)
    (tmp_path / "staged").mkdir()
    blobs = sent(exchange, rows_of(stage(exchange, [[5]]), [0] * 5, [4_300] * 5))[0]
    with exchange.receive(iter(blobs), HEAD):
        assert list((tmp_path / "scratch").rglob("*.arrow"))
    assert not list((tmp_path / "scratch").iterdir())
