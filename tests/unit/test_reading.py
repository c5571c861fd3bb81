"""The reading pass without Spark: its report adds up however the work was cut, and survives JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwright.format.layout import columns
from shardwright.hashing import path_keys, place_keys
from shardwright.hashing.places import as_matrix
from shardwright.hashing.ranks import UNIFORM_BINS, Bins
from shardwright.schema import Field, Schema
from shardwright.spark.exchange import StagedExchange
from shardwright.spark.reading import MAX_REASONS, ReadPass, ReadReport, encoded_bytes
from shardwright.stages import SOURCE
from shardwright.stages.clean import Clean
from shardwright.stages.read import AddKeys
from shardwright.stages.split import Split, SplitOptions
from shardwright.storage import LocalStorage

SCHEMA = Schema(fields=(Field(name="x", dtype="uint8", shape=(2,)), Field(name="y", dtype="int8")))


def report_of(numbers: Sequence[int]) -> ReadReport:
    """A report of samples that are numbers, in two splits."""
    report = ReadReport(read=len(numbers), quarantined=len(numbers) // 3)
    if numbers:
        names = pa.array(["odd" if number % 2 else "even" for number in numbers])
        report.count(names, place_keys(0, path_keys([str(n) for n in numbers])), np.array(numbers, np.int64))
        report.index_files = [f"{numbers[0]}.parquet"]
        report.first_reasons = [f"{number:03d}" for number in numbers][:MAX_REASONS]
    return report


def plain(report: ReadReport) -> dict[str, object]:
    return {**vars(report), "bins": {name: bins.tolist() for name, bins in report.bins.items()}}


@given(st.lists(st.lists(st.integers(0, 999), max_size=12), min_size=1, max_size=4))
def test_merging_is_counting_all_at_once(tasks: list[list[int]]) -> None:
    total = ReadReport()
    for numbers in tasks[::-1]:
        total.merge(ReadReport.from_json(report_of(numbers).to_json()))
    every = [number for numbers in tasks for number in numbers]
    whole = report_of(every)
    assert (total.read, total.samples, total.bytes) == (whole.read, whole.samples, whole.bytes)
    assert plain(total)["bins"] == plain(whole)["bins"]
    assert total.samples == Counter("odd" if number % 2 else "even" for number in every)
    assert total.first_reasons == sorted(reason for ns in tasks for reason in report_of(ns).first_reasons)[:MAX_REASONS]
    assert total.index_files == sorted(name for ns in tasks for name in report_of(ns).index_files)


@given(st.lists(st.integers(0, 999), max_size=20))
def test_a_report_survives_json(numbers: list[int]) -> None:
    report = report_of(numbers)
    again = ReadReport.from_json(report.to_json())
    assert plain(again) == plain(report)
    assert again.to_json() == report.to_json()
    assert isinstance(again.samples, Counter)


def test_bins_are_few_in_a_small_task_and_all_fit_in_a_large_one() -> None:
    assert len(report_of([1, 2, 3]).to_json()) < 400
    full = ReadReport(bins={"train": np.full(UNIFORM_BINS, 2**40)})
    assert ReadReport.from_json(full.to_json()).bins["train"].tolist() == [2**40] * UNIFORM_BINS


@dataclass(frozen=True)
class _Batches:
    """Rows that are already there."""

    batches: tuple[pa.RecordBatch, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from self.batches


def samples(count: int, bad: Sequence[int] = ()) -> pa.RecordBatch:
    values = {
        "x": pa.array([[row % 256, row // 256] for row in range(count)], pa.list_(pa.uint8())),
        "y": pa.array([1000 if row in bad else row % 100 for row in range(count)], pa.int16()),
        SOURCE: pa.array([f"in#{row}" for row in range(count)]),
    }
    return pa.RecordBatch.from_pydict(values)


def run(directory: Path, *batches: pa.RecordBatch) -> ReadReport:
    for name in ("data", "index", "quarantine"):
        (directory / name).mkdir(parents=True)
    maps = (AddKeys(SCHEMA), Clean(SCHEMA), Split(SCHEMA, SplitOptions(fractions={"a": 0.5, "b": 0.5})))
    read = ReadPass(
        rows=_Batches(batches), maps=maps, schema=SCHEMA, exchange=StagedExchange(LocalStorage(directory / "data")),
        directory=LocalStorage(directory), seed=3,
    )  # fmt: skip
    (answer,) = read(iter(()))
    return ReadReport.from_json(answer["report"][0].as_py())


def test_the_pass(tmp_path: Path) -> None:
    report = run(tmp_path, samples(40, bad=[7, 30]), samples(0))
    assert (report.read, report.quarantined, sum(report.samples.values())) == (40, 2, 38)
    (name,) = report.index_files
    index = pq.read_table(tmp_path / "index" / name)
    assert Counter(index["split"].to_pylist()) == report.samples
    assert index["key"].to_pylist() == index["content"].to_pylist()
    bins = Bins().of(as_matrix(index["place_key"].combine_chunks()))
    assert np.array_equal(sum(report.bins.values()), np.bincount(bins, minlength=UNIFORM_BINS))
    layout = columns(SCHEMA)
    (array,) = StagedExchange(LocalStorage(tmp_path / "data")).fetch(index, layout[:1])
    assert sorted(cell[-2:] for cell in array.to_pylist()) == [bytes([row, 0]) for row in range(40) if row not in (7, 30)]


def test_rejected_samples_are_kept_with_stage_field_reason_and_source(tmp_path: Path) -> None:
    report = run(tmp_path, samples(9, bad=[4]))
    (name,) = report.quarantine_files
    (row,) = pq.read_table(tmp_path / "quarantine" / name).to_pylist()
    assert row == {
        "stage": "clean", "field": "y", "reason": "1000 is outside [-128, 127]", "source": "in#4", "sample_x": [4, 0],
        "sample_y": 1000,
    }  # fmt: skip
    assert report.first_reasons == ["in#4: field 'y': 1000 is outside [-128, 127]"]


def test_a_rejected_string_that_is_no_utf_8_is_kept_as_bytes(tmp_path: Path) -> None:
    schema = Schema(fields=(Field(name="s", dtype="string"),))
    values = pa.array([b"\xff", b"good"]).view(pa.string())
    for name in ("data", "index", "quarantine"):
        (tmp_path / name).mkdir()
    read = ReadPass(
        rows=_Batches((pa.RecordBatch.from_pydict({"s": values, SOURCE: pa.array(["in#0", "in#1"])}),)),
        maps=(AddKeys(schema), Clean(schema), Split(schema, SplitOptions())),
        schema=schema, exchange=StagedExchange(LocalStorage(tmp_path / "data")), directory=LocalStorage(tmp_path), seed=3,
    )  # fmt: skip
    (answer,) = read(iter(()))
    (name,) = ReadReport.from_json(answer["report"][0].as_py()).quarantine_files
    (row,) = pq.read_table(tmp_path / "quarantine" / name).to_pylist()
    assert (row["sample_s"], row["source"]) == (b"\xff", "in#0")


def test_samples_refused_by_several_stages_lie_in_one_file_as_they_were_read(tmp_path: Path) -> None:
    """Fields may have the names of what is told of them, and a stage after `clean` gets arrays as bytes."""
    names = ("stage", "field", "reason", "source", "v")
    kinds = {"v": {"dtype": "float32", "shape": (2,)}}
    schema = Schema(fields=tuple(Field.model_validate({"name": n, "dtype": "string", **kinds.get(n, {})}) for n in names))
    texts = [b"ok", b"", b"\xff", b"last"]
    given = {name: pa.array(texts).view(pa.string()) for name in names[1:]} | {"stage": pa.array(["train", "a b", "c", "no!"])}
    given |= {"v": pa.array([[1.0, 2.0], [3.0, float("nan")], [5.0, 6.0], [7.0, 8.0]]), SOURCE: pa.array(list("0123"))}
    whole = pa.RecordBatch.from_pydict(given)
    for name in ("data", "index", "quarantine"):
        (tmp_path / name).mkdir()
    read = ReadPass(
        rows=_Batches((whole.slice(0, 2), whole.slice(2, 1), whole.slice(3))),
        maps=(AddKeys(schema), Clean(schema), Split(schema, SplitOptions(column="stage"))),
        schema=schema, exchange=StagedExchange(LocalStorage(tmp_path / "data")), directory=LocalStorage(tmp_path), seed=3,
    )  # fmt: skip
    (answer,) = read(iter(()))
    report = ReadReport.from_json(answer["report"][0].as_py())
    rows = pq.read_table(tmp_path / "quarantine" / report.quarantine_files[0]).to_pylist()
    assert [(row["stage"], row["field"], row["source"]) for row in rows] == [
        ("clean", "v", "1"), ("clean", "field", "2"), ("split", "stage", "3"),
    ]  # fmt: skip
    assert [row["sample_stage"] for row in rows] == ["a b", "c", "no!"]
    assert [row["sample_source"] for row in rows] == [b"", b"\xff", b"last"]
    np.testing.assert_equal([row["sample_v"] for row in rows], [[3.0, float("nan")], [5.0, 6.0], [7.0, 8.0]])


def test_nothing_to_read(tmp_path: Path) -> None:
    report = run(tmp_path)
    assert (report.read, report.samples, report.quarantine_files) == (0, Counter(), [])
    assert pq.read_metadata(tmp_path / "index" / report.index_files[0]).num_rows == 0


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_the_same_index_however_batches_are_cut(tmp_path: Path, cut: int) -> None:
    whole = samples(11, bad=[2])
    trees = []
    for number, batches in enumerate([(whole,), (whole.slice(0, cut), whole.slice(cut))]):
        report = run(tmp_path / str(number), *batches)
        table = pq.read_table(tmp_path / str(number) / "index" / report.index_files[0])
        trees.append((table.drop_columns(["file"]), json.loads(report.to_json())["bins"]))
    assert trees[0] == trees[1]


def test_encoded_bytes() -> None:
    schema = Schema.model_validate(
        {
            "fields": [
                {"name": "cell", "dtype": "uint8", "shape": (2, 2)},
                {"name": "number", "dtype": "uint16"},
                {"name": "text", "dtype": "string"},
                {"name": "flag", "dtype": "bool"},
            ]
        }
    )
    batch = pa.RecordBatch.from_pydict({"text": pa.array(["", "é", None, "abc"]).slice(1)})
    fixed = (128 + 4) + 4 + 1 + 16
    assert encoded_bytes(batch, columns(schema)).tolist() == [fixed + 4 + 2, fixed + 4, fixed + 4 + 3]
