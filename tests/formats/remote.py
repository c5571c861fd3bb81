"""The same files here and on another machine give the same samples: what the tests of each remote storage share."""

from __future__ import annotations

import bz2
import copy
import gzip
import lzma
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shardwright.sources import Source, open_source
from shardwright.stages.read import AddKeys
from tests.conftest import ROOT
from tests.formats.inputs import FORMATS, ROWS, Format

TASK_BYTES = 600
"""Small: files of rows are cut wherever they can be."""


def _compressed(form: Format, suffix: str, compress: Callable[[bytes], bytes]) -> Format:
    def write(path: Path, rows: Sequence[int]) -> None:
        before = set(path.parent.iterdir())
        form.write(path, rows)
        for plain in set(path.parent.iterdir()) - before:
            data = compress(plain.read_bytes())
            plain.unlink()
            plain.with_name(plain.name if form.suffix else f"{plain.name}{suffix}").write_bytes(data)

    return replace(form, name=f"{form.name}{suffix}", suffix=f"{form.suffix}{suffix}" if form.suffix else "", write=write)


def _write_fortran(folder: Path, rows: Sequence[int]) -> None:
    folder.mkdir()
    np.save(folder / "table.npy", np.asfortranarray(np.arange(len(rows) * 6, dtype=">i4").reshape(-1, 2, 3)))


def _write_deflated(path: Path, rows: Sequence[int]) -> None:
    np.savez_compressed(path, number=np.array(rows))


_BY_NAME = {form.name: form for form in FORMATS}
FILES = [form for form in FORMATS if not form.by_spark]
"""The formats of files, and then the ways to write them that are read in another way."""
FILES += [
    _compressed(_BY_NAME["csv"], ".gz", gzip.compress),
    _compressed(_BY_NAME["jsonl"], ".bz2", bz2.compress),
    _compressed(_BY_NAME["text"], ".xz", lzma.compress),
    _compressed(_BY_NAME["idx"], ".gz", gzip.compress),
    _compressed(_BY_NAME["tfrecord"], ".gz", gzip.compress),
    _compressed(_BY_NAME["webdataset"], ".gz", gzip.compress),
    replace(_BY_NAME["npy"], name="npy in Fortran order", write=_write_fortran),
    replace(_BY_NAME["npz"], name="npz, compressed", write=_write_deflated),
]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some kilobytes have many pieces; and the own reader of the docs is found."""
    monkeypatch.syspath_prepend(ROOT / "docs/examples")
    for name in ("lines.UNIT_BYTES", "line_reader.UNIT_BYTES", "sync_markers.PIECE_BYTES"):
        monkeypatch.setattr(f"shardwright.sources.{name}", 200)


def write_here(form: Format, folder: Path) -> None:
    """Two files of the format, or sets of files, in that new folder."""
    folder.mkdir()
    form.write(folder / f"rows{form.suffix}", range(ROWS))
    if not form.whole_files:
        (folder / "more").mkdir()
        form.write(folder / "more" / f"rows{form.suffix}", range(ROWS, ROWS + 5))


def open_form(form: Format, path: str) -> Source:
    return open_source(form.read["format"], path, **{name: value for name, value in form.read.items() if name != "format"})


def keyed(source: Source) -> pa.Table:
    """Every sample with its key and its place, as tasks that travelled read them; text as bytes, for not all is UTF-8."""
    travelled = copy.deepcopy(source)
    stage = AddKeys(source.schema, sample_per_file=source.sample_per_file)
    names = [*source.schema.names, "_source", "_key"]
    batches = [batch for task in source.tasks(TASK_BYTES) for batch in travelled.read(task)]
    found = pa.Table.from_batches([stage(batch)[0].select(names) for batch in batches])
    plain = [pa.binary() if kind == pa.string() else kind for kind in found.schema.types]
    return found.cast(pa.schema(list(zip(names, plain, strict=True))))


def check_same(form: Format, here: Path, there: str) -> None:
    """The files in `here` and their copies in the folder `there` have the same fields, tasks, samples, places and keys."""
    local, remote = open_form(form, str(here)), open_form(form, there)
    assert [(file.name, file.bytes) for file in remote.files] == [(file.name, file.bytes) for file in local.files]
    assert all(file.path == f"{there}/{file.name}" and file.modified_ns for file in remote.files)
    assert not remote.addressable
    assert remote.schema == local.schema
    if "Fortran" not in form.name:
        cuts = [[(task.start, task.stop) for task in source.tasks(TASK_BYTES)] for source in (local, remote)]
        assert cuts[0] == cuts[1]
    one, other = keyed(local), keyed(remote)
    assert other.num_rows >= ROWS - 1
    assert repr(other.to_pylist()) == repr(one.to_pylist())  # NaN and all
