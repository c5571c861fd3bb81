"""Folders that change between the look at them and the reading of them, which is in other processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwright import errors
from shardwright.config import Config
from shardwright.sources import Source, open_source
from shardwright.spark import prepare

pytestmark = pytest.mark.usefixtures("spark")

FORMATS = ("csv", "files", "parquet")
FILES = 4


def write(format: str, path: Path, number: int) -> None:  # noqa: A002
    """One file of two samples, or of one."""
    match format:
        case "csv":
            path.write_text(f"a\n{number}\n{number}\n")
        case "files":
            path.write_bytes(bytes([number]) * 10)
        case "parquet":
            pq.write_table(pa.table({"a": [number, number]}), path)


def _remove(path: Path) -> None:
    path.unlink()


def _grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"9\n")


def _replace(path: Path) -> None:
    data = path.read_bytes()
    path.with_suffix(".new").write_bytes(bytes(reversed(data)))
    os.replace(path.with_suffix(".new"), path)


def _add(path: Path) -> None:
    path.with_name("added").write_bytes(path.read_bytes())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove, r"2: can't be read \(No such file or directory\): it was removed after the job listed its input"),
        (_grow, r"2: was changed while it was read; run the job again when the input is complete"),
        (_replace, r"2: was changed while it was read; run the job again when the input is complete"),
        (_add, None),
    ],
)
def test_a_folder_that_changes(
    format: str,  # noqa: A002
    change: Callable[[Path], None],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FILES):
        write(format, folder / str(number), number)

    def opened(*arguments: Any, **named: Any) -> Source:
        source = open_source(*arguments, **named)
        change(folder / "2")
        return source

    monkeypatch.setattr("shardwright.spark.pipeline.open_source", opened)
    values = {"name": "t", "read": {"format": format, "path": str(folder)}, "shard": {"count": 1}}
    config = Config.model_validate({**values, "publish": {"path": str(tmp_path / "out")}})
    if message is not None:
        with pytest.raises(errors.InputError, match=message):
            prepare(config, quiet=True)
        assert not (tmp_path / "out/_LATEST").exists()
        return
    result = prepare(config, quiet=True)  # of what was there when it was looked at
    assert result.manifest.lineage.counts.published == (FILES if format == "files" else 2 * FILES)
    monkeypatch.undo()
    again = prepare(config, quiet=True)
    assert (again.version, len(again.manifest.lineage.inputs)) == ("v000002", FILES + 1)
