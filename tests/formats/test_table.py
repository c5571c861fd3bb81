"""Every format is read, keyed, quarantined and recorded, and its result depends on no cut: the table of the docs."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import shardwright as sw
from shardwright import sources
from shardwright.config import Config
from shardwright.spark import prepare
from tests.conftest import ROOT
from tests.formats.inputs import BAD, FORMATS, ROWS, Format

DOCS = ROOT / "docs/formats.md"
UPDATE = "SHARDWRIGHT_UPDATE_DOCS"
GOOD = [row for row in range(ROWS) if row != BAD]
WHOLE = [("rows", list(range(ROWS)))]
CUT = [("z", list(range(9))), ("b", [*range(40, ROWS), *range(9, 12)]), ("m", list(range(12, 40)))]
"""The same rows in files of other names, sizes and order."""


@dataclass(frozen=True)
class Prepared:
    """A dataset, and what went into it."""

    made: Any
    inputs: list[Path]
    samples: dict[bytes, dict[str, Any]]
    """By key."""


def prepared(form: Format, folder: Path, parts: Sequence[tuple[str, list[int]]], task_bytes: int) -> Prepared:
    data = folder / "in"
    data.mkdir(parents=True)
    read = {**form.read, "path": str(data), "task_bytes": task_bytes}
    if form.by_spark:
        form.write(Path("rows"), [row for _, rows in parts for row in rows])
        read = {**form.read, **({"path": "rows"} if form.name == "table" else {"query": "select * from rows"})}
    else:
        for name, rows in parts:
            form.write(data / (name + form.suffix), rows)
    made = prepare(
        Config.model_validate(
            {
                "name": "formats", "read": read, "clean": {"max_rejected": 0.1, **form.clean}, "shard": {"count": 2},
                "publish": {"path": str(folder / "out")},
            }
        ),
        quiet=True,
    )  # fmt: skip
    names = [*made.manifest.content.dataset_schema.names, "_key"]
    found = [dict(sample) for sample in sw.open_dataset(made.url, split="train", columns=names)]
    inputs = sorted(path for path in data.rglob("*") if path.is_file())
    return Prepared(made, inputs, {sample.pop("_key").tobytes(): sample for sample in found})


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def is_read(form: Format, one: Prepared, cut: Prepared) -> bool:
    """Every good row is there once, with its values and no other."""
    missing = [form.sample(row) for row in GOOD]
    for sample in one.samples.values():
        found = [expected for expected in missing if equal(sample, expected)]
        if len(found) != 1:
            return False
        missing = [expected for expected in missing if expected is not found[0]]
    return not missing


def is_keyed(form: Format, one: Prepared, cut: Prepared) -> bool:
    """A row has the same key wherever it was written."""
    return len(one.samples) == len(GOOD) and all(
        key in cut.samples and equal(sample, cut.samples[key]) for key, sample in one.samples.items()
    )


def is_quarantined(form: Format, one: Prepared, cut: Prepared) -> bool:
    """The bad row is there, with why, and where it was."""
    files = list((Path(one.made.url.removeprefix("file://")) / one.made.version / "_quarantine").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    if len(rows) != 1 or not rows[0]["reason"].startswith(form.reason) or not rows[0]["reason"]:
        return False
    where = rows[0]["source"]
    return where is None if form.by_spark else any(where.startswith(name_of(path)) for path in one.inputs)


def is_recorded(form: Format, one: Prepared, cut: Prepared) -> bool:
    """Every input is named with size and time, and no sample is unaccounted for."""
    lineage = one.made.manifest.lineage
    counts = lineage.counts
    if (counts.read, counts.published, counts.quarantined) != (ROWS, len(GOOD), 1):
        return False
    if form.by_spark:
        return len(lineage.inputs) == 1 and "rows" in lineage.inputs[0].path
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in one.inputs]
    return sorted((entry.path, entry.bytes, entry.modified_ns) for entry in lineage.inputs) == stats


def is_independent(form: Format, one: Prepared, cut: Prepared) -> bool:
    """To the byte: the same content for other files and other tasks."""
    return bool(one.made.manifest.content_id == cut.made.manifest.content_id)


PROPERTIES: dict[str, Callable[[Format, Prepared, Prepared], bool]] = {
    "read": is_read, "key": is_keyed, "quarantine": is_quarantined, "lineage": is_recorded,
    "partition-independent": is_independent,
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.as_posix().rpartition("/in/")[2]


@pytest.fixture(scope="module")
def results(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Format], dict[str, bool]]:
    """Which of the properties hold for a format; found out once."""
    spark.sparkContext.addPyFile(str(ROOT / "docs/examples/own_reader.py"))

    @functools.cache
    def result(form: Format) -> dict[str, bool]:
        folder = tmp_path_factory.mktemp("format")
        one = prepared(form, folder / "one", WHOLE, task_bytes=2**21 if form.whole_files else 600)
        cut = prepared(form, folder / "cut", WHOLE if form.whole_files else CUT, task_bytes=2**27)
        return {name: check(form, one, cut) for name, check in PROPERTIES.items()}

    return result


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_every_property_holds(form: Format, results: Callable[[Format], dict[str, bool]]) -> None:
    assert results(form) == dict.fromkeys(PROPERTIES, True)


def test_the_table_of_the_docs(results: Callable[[Format], dict[str, bool]]) -> None:
    rows = [["format", *PROPERTIES], ["---"] * (1 + len(PROPERTIES))]
    rows += [[form.name, *("yes" if holds else "no" for holds in results(form).values())] for form in FORMATS]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    text = DOCS.read_text()
    wanted = re.sub(r"(<!-- table:[^\n]*-->\n).*?(<!-- end of table -->)", rf"\1\n{table}\n\n\2", text, count=1, flags=re.S)
    if os.environ.get(UPDATE):
        DOCS.write_text(wanted)
    assert DOCS.read_text() == wanted, f"the table of {DOCS} is not what was found; {UPDATE}=1 writes it anew"


def test_no_format_is_left_out() -> None:
    shown = {form.read["format"] for form in FORMATS}
    assert shown == {*sources.FORMATS, *sources.SPARK_FORMATS, "own_reader:ProbeReader"}
