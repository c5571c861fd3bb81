"""A reader of one's own: the documented example, and what a beginner gets wrong is told in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwright.config import Config
from shardwright.errors import ConfigError, InputError
from shardwright.sources import AT, InputFile, Reader, open_source
from shardwright.sources.base import Source
from shardwright.spark.pipeline import work_of
from shardwright.stages.read import AddKeys
from tests.conftest import ROOT

EXAMPLE = "own_reader:ProbeReader"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs/examples"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "these", sys.modules[__name__])


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    return pa.Table.from_batches([batch for task in source.tasks(task_bytes) for batch in source.read(task)])


def probe(path: Path, ok: Sequence[int], channels: int = 3) -> Path:
    rows = np.zeros(len(ok), [("when", "<i8"), ("ok", "u1"), ("values", "<f4", (channels,))])
    rows["when"], rows["ok"], rows["values"] = np.arange(len(ok)), ok, np.arange(len(ok))[:, None]
    path.write_bytes(b"PROBE1" + bytes([channels]) + rows.tobytes())
    return path


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import own_reader  # type: ignore[import-not-found]

    path = probe(tmp_path / "a.probe", [1, 1, 0, 1, 1])
    monkeypatch.setattr(own_reader, "ROWS_OF_A_PIECE", 2)
    source = open_source(EXAMPLE, path, options={"channels": 3})
    assert [(f.name, f.dtype, f.shape) for f in source.schema] == [("when", "timestamp", ()), ("values", "float32", (3,))]
    whole = read(source)
    assert len(source.tasks(1)) == 3
    assert read(source, 1).equals(whole)
    assert whole["_source"].to_pylist() == [f"a.probe#{row}" for row in range(5)]
    batch, rejects = AddKeys(source.schema)(whole.combine_chunks().to_batches()[0])
    assert batch["values"].to_pylist() == [[row] * 3 for row in (0, 1, 3, 4)]
    assert (rejects.rows, rejects.reasons) == ([2], ["the device says that it failed"])
    with pytest.raises(InputError, match=r"a.probe: expected a header of 4 channels, found b'PROBE1\\x03'"):
        open_source(EXAMPLE, path, options={"channels": 4})
    assert (ROOT / "docs/examples/own_reader.py").read_text() in (ROOT / "docs/formats.md").read_text()


def test_its_code_and_options_are_part_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe(tmp_path / "a.probe", [1, 1])
    read = {"format": EXAMPLE, "path": str(tmp_path), "options": {"channels": 3}}
    values: dict[str, Any] = {"name": "t", "read": read, "shard": {"count": 1}}
    work = work_of(Config.model_validate(values))
    assert work.own_code == (EXAMPLE,)
    assert work.configuration["read"] == {"format": EXAMPLE, "options": {"channels": 3}}
    again = work_of(Config.model_validate(values | {"split": {"seed": 0}, "clean": {"decode": True}}))  # what they are anyway
    assert (again.configuration_sha256, again.attempt) == (work.configuration_sha256, work.attempt)
    monkeypatch.setattr("shardwright.spark.work.code_sha256", lambda target: f"of edited {target}")
    assert work_of(Config.model_validate(values)).configuration_sha256 != work.configuration_sha256


def test_other_options_are_another_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,NA\n2,b\n")
    found = set()
    for options in ({}, {"null_strings": True}, {"null_values": ["NA"]}):
        read = {"format": "csv", "path": str(tmp_path / "a.csv"), "options": options, "fields": {"y": {"dtype": "string"}}}
        found.add(work_of(Config.model_validate({"name": "t", "read": read, "shard": {"count": 1}})).configuration_sha256)
    assert len(found) == 3


def test_what_can_not_be_imported(tmp_path: Path) -> None:
    path = probe(tmp_path / "a.probe", [1])
    (tmp_path / "needy.py").write_text("import not_installed_at_all\n")
    (tmp_path / "wrong.py").write_text("def __getattr__(name):\n    raise AttributeError(name)\nReader = dict\n")
    for format, problem in (  # noqa: A001
        ("nowhere:Reader", r"no module 'nowhere'; is it on the Python path \(--py-files\)\?"),
        ("own_reader.sub:Reader", r"no module 'own_reader.sub'; is it on the Python path"),
        ("needy:Reader", "the module 'needy' needs one that is not installed: 'not_installed_at_all'"),
        ("own_reader:ProbReader", r"the module 'own_reader' has no 'ProbReader'; did you mean 'ProbeReader'\?"),
        ("wrong:Reader", "the module 'wrong' has 'Reader', but that is no subclass of shardwright.sources.Reader;"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"read.format '{format}': {problem}"):
            open_source(format, path)
    for options, problem in (
        (
            {"chanels": 3},
            r"no option 'chanels'; did you mean 'channels'\? known: channels\n.*the option 'channels' is required",
        ),
        ({"channels": "three"}, r"\[read.options\] of format 'own_reader:ProbeReader': "),
    ):
        with pytest.raises(ConfigError, match=problem):
            open_source(EXAMPLE, path, options=options)
    with pytest.raises(ConfigError, match=r"of format 'these:Lines': no option 'x'; it has none"):
        open_source("these:Lines", path, options={"x": 1})


class Lines(Reader):
    """Right so far: what is derived from it does one thing wrong."""

    def schema(self, file: InputFile) -> Any:
        return pa.schema([("x", pa.int64()), ("s", pa.string())])

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[Any]:
        yield self.batch().select(list(columns))

    def batch(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict({"x": [1, 2], "s": ["a", "b"]})


class SchemaIsADict(Lines):
    def schema(self, file: InputFile) -> Any:
        return {"x": "int64"}


class UnitsAreFloats(Lines):
    def units(self, file: InputFile) -> Any:
        return [0.5]


class UnitsAreANumber(Lines):
    def units(self, file: InputFile) -> Any:
        return 3


class GivesTables(Lines):
    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[Any]:
        yield pa.table({"x": [1]})


class LeavesOut(Lines):
    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[Any]:
        yield self.batch().select(["x"])


class OtherType(Lines):
    def batch(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict({"x": [1.5], "s": ["a"]})


class NoPlace(Lines):
    def units(self, file: InputFile) -> Sequence[int]:
        return (100, 100)


class PlaceIsANumber(Lines):
    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[Any]:
        yield self.batch().append_column(AT, pa.array([1, 2]))


@pytest.mark.parametrize(
    "reader, problem",
    [
        (SchemaIsADict, "schema() must give a pyarrow.Schema, found dict"),
        (UnitsAreFloats, "units() must give a sequence of int, the bytes of each piece, found [0.5]"),
        (UnitsAreANumber, "units() must give a sequence of int, the bytes of each piece, found 3"),
        (GivesTables, "read() must give pyarrow.RecordBatch, found Table"),
        (LeavesOut, "read() was asked for the column 's', its batch has only ['x']"),
        (OtherType, "schema() says that column 'x' is int64, read() gave double"),
        (NoPlace, "units() says that a file has several pieces; then the batches of read() need the column '_at'"),
        (PlaceIsANumber, "the column '_at' must hold strings, read() gave int64"),
    ],
)
def test_a_reader_that_misbehaves(reader: type[Reader], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(open_source(f"these:{reader.__name__}", probe(tmp_path / "a", [1])), 1)
    assert str(error.value) == f'read.format = "{reader.__module__}:{reader.__name__}": {problem}; correct the reader'


def test_a_reader_that_does_it_right(tmp_path: Path) -> None:
    table = read(open_source("these:Lines", probe(tmp_path / "a", [1]), columns=["s"]))
    assert table.to_pylist() == [{"s": "a", "_source": "a#0"}, {"s": "b", "_source": "a#1"}]
