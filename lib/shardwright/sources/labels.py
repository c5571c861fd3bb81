"""A table that says more of files than they do themselves: a CSV with a row for each picture."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from shardwright.errors import InputError, InputNotFoundError
from shardwright.format.layout import sample_type
from shardwright.schema import suggest
from shardwright.sources.base import REJECT, InputFile, Task
from shardwright.sources.columns import Asked, Declaration
from shardwright.sources.csv import CsvOptions, column_names, open_csv
from shardwright.sources.files import find_files, pack_files
from shardwright.sources.tables import TableSource
from shardwright.sources.whole_files import WholeFiles

PATH_COLUMNS = ("path", "file", "filename", "image")
"""Looked for where no column is named."""
_SHOWN = 3


@dataclass
class Labels:
    """The rows of a labels file by the path that each names, relative to the root of the pictures, or absolute.

    It is read where it is needed, once in a process, and travels without its rows.
    """

    file: InputFile
    source: TableSource
    path_column: str
    header: tuple[str, ...]
    """The columns of the file, as it calls them."""
    _rows: pa.Table | None = field(default=None, repr=False)
    _by_path: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.file, self.source, self.path_column, self.header)

    @property
    def fields(self) -> dict[str, Declaration]:
        """What the columns are, but for the path."""
        return {
            one.name: one.model_dump(exclude={"name"}, exclude_none=True)
            for one in self.source.schema
            if one.name != self.path_column
        }

    def look_up(self, files: Sequence[InputFile]) -> tuple[pa.Table, list[str | None]]:
        """The rows of these files, nulls where there is not exactly one; and for each file why not, or None."""
        rows = self._load()
        found = [self._find(file) for file in files]
        taken = rows.take(pa.array([places[0] if len(places) == 1 else None for places in found], pa.int64()))
        return taken, [None if len(places) == 1 else self._why_not(places) for places in found]

    def unused(self, files: Sequence[InputFile]) -> list[tuple[str, str]]:
        """Rows that belong to none of `files`, each as its place and the reason.

        Raises InputError where that is all of them.
        """
        rows = self._load()
        names = {name for file in files for name in (file.name, file.path)}
        paths = rows[self.path_column].to_pylist()
        reasons = rows[REJECT].to_pylist()
        out = []
        for source, path, reason in zip(rows["_source"].to_pylist(), paths, reasons, strict=True):
            if reason is not None or path is None or _normal(path) not in names:
                out.append(
                    (source, reason or f"expected the path of a picture in {self.path_column!r}, found no such: {path!r}")
                )
        if len(out) == len(paths):
            raise InputError(
                f"{self.file.path}: expected paths of pictures in the column {self.path_column!r}, found none in "
                f"{len(paths)} rows: {', '.join(map(repr, paths[:_SHOWN]))}; pictures are named as {files[0].name!r}"
            )
        return out

    def _load(self) -> pa.Table:
        if self._rows is None:
            whole = Task(files=(self.file,), start=0, stop=0, bytes=self.file.bytes)
            batches = list(self.source.read(whole))
            if not batches:
                raise InputError(f"{self.file.path}: expected a row for each picture, found none")
            rows = pa.Table.from_batches(batches).combine_chunks()
            for place, (path, reason) in enumerate(
                zip(rows[self.path_column].to_pylist(), rows[REJECT].to_pylist(), strict=True)
            ):
                if path is not None and reason is None:
                    self._by_path.setdefault(_normal(path), []).append(place)
            self._rows = rows
        return self._rows

    def _find(self, file: InputFile) -> list[int]:
        return [*self._by_path.get(file.name, ()), *self._by_path.get(file.path, ())]

    def _why_not(self, places: Sequence[int]) -> str:
        if not places:
            return f"expected a row for it in {self.file.name}, found none"
        assert self._rows is not None
        shown = ", ".join(self._rows["_source"].take(pa.array(places[:_SHOWN])).to_pylist())
        return f"expected one row for it in {self.file.name}, found {len(places)}: {shown}"


@dataclass
class LabelledFiles(WholeFiles):
    """Files as samples, and the rows that belong to none of them as rejects."""

    labels: Labels
    unused: tuple[tuple[str, str], ...]
    """Where such rows are, and why they belong to none."""

    @classmethod
    def of(cls, pictures: WholeFiles, labels: Labels) -> LabelledFiles:
        """Files of which `labels` tells more. Raises InputError where it tells of none of them."""
        files, unused = (*pictures.files, labels.file), tuple(labels.unused(pictures.files))
        return cls(pictures.schema, files, pictures.decoder, pictures.names, labels, unused)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.schema, (), self.decoder, self.names, self.labels, self.unused)

    def tasks(self, task_bytes: int) -> list[Task]:
        """Files in order, packed to about `task_bytes`; then the labels file, for rows that belong to none."""
        pictures = [file for file in self.files if file != self.labels.file]
        own = Task(files=(self.labels.file,), start=0, stop=0, bytes=0)
        return [*pack_files(pictures, task_bytes), *([own] if self.unused else [])]

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The samples of a task's files, or the rejects."""
        if task.files != (self.labels.file,):
            yield from super().read(task)
            return
        types = {**{one.name: sample_type(one) for one in self.schema}, **self.labels.source.types}
        nulls = {name: pa.nulls(len(self.unused), types[name]) for name in self.schema.names}
        sources, reasons = zip(*self.unused, strict=True)
        told = {"_source": pa.array(sources, pa.string()), REJECT: pa.array(reasons, pa.string())}
        yield pa.RecordBatch.from_pydict({**nulls, **told})


def open_labels(
    name: str,
    path_column: str | None,
    options: CsvOptions,
    files: Sequence[InputFile],
    asked: Asked,
) -> Labels:
    """The labels file `name`, absolute or relative to the root of the input.

    Raises InputError where there is none, or several, and for one without a column of paths.
    """
    file = _labels_file(name, files)
    stored = column_names(file, options)
    rename = {new: old for new, old in asked.rename.items() if old in stored}
    header = asked.names(stored)
    column = path_column or next((known for known in PATH_COLUMNS if known in header), None)
    if column is None or column not in header:
        wanted = repr(path_column) if path_column else " or ".join(map(repr, PATH_COLUMNS))
        raise InputError(
            f"{file.path}: expected a column {wanted} with the paths of pictures; set read.options.path_column "
            f"({suggest(path_column or 'path', list(header))})"
        )
    others = [one for one in header if one != column]
    fields = {one: said for one, said in asked.fields.items() if one in others}
    columns = None if asked.columns is None else [column, *(one for one in asked.columns if one in others)]
    source = open_csv([file], Asked({**fields, column: {"dtype": "string"}}, columns, rename), options)
    return Labels(file, source, column, stored)


def _labels_file(name: str, files: Sequence[InputFile]) -> InputFile:
    roots = sorted({file.path.removesuffix(file.name) for file in files})
    places = dict.fromkeys(name if "://" in name else posixpath.join(root, name) for root in roots)
    found = [file for place in places if (file := _file_at(place))]
    if len(found) != 1:
        raise InputError(
            f"read.options.labels: expected one file {name!r}, absolute or in the root of the input, found "
            f"{[file.path for file in found] or 'none'} ({'root' if len(roots) == 1 else 'roots'}: {', '.join(roots[:_SHOWN])})"
        )
    return found[0]


def _file_at(path: str) -> InputFile | None:
    """That file; None where there is none, or a folder."""
    try:
        files = find_files(path)
    except InputNotFoundError:
        return None
    return files[0] if files[0].path.rpartition("/")[2] == files[0].name == posixpath.basename(path) else None


def _normal(path: str) -> str:
    scheme, separator, rest = path.strip().rpartition("://")
    return scheme + separator + posixpath.normpath(rest)
