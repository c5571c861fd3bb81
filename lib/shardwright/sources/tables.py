"""Files of rows and columns, whatever their format: what a `Reader` gives becomes a `Source`.

Hive partitions (`key=value` in the names of folders) are columns, files are packed into tasks, and every row says where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import InputError, SchemaError
from shardwright.schema import Schema
from shardwright.sources.arrays import row_sources
from shardwright.sources.base import AT, REJECT, Decoded, InputFile, Reader, Task
from shardwright.sources.columns import (
    Asked,
    Declaration,
    arrow_type,
    convert,
    declare,
    fits,
    infer,
    normal_type,
    read_type,
    show_name,
)
from shardwright.sources.files import is_documentation, pack_files, select_files
from shardwright.sources.inputs import check_unchanged

_CHECKED = 1000
"""Files whose columns are compared before Spark starts, so that most mistakes are told early; all are where they are read."""
_WHOLE = 16
"""A file smaller than a task by this factor is read whole, without a look at where it can be cut."""
_THREADS = 16
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_SHOWN = 5
"""Differences between files that a message lists before it only counts."""

_Types = dict[str, pa.DataType]


@dataclass
class TableSource(Decoded):
    """Rows of the files that `reader` reads.

    A task is the pieces [start, stop) of one file, or several files as a whole, and then `stop` is 0. Partition keys
    (`key=value` in the names of folders) are columns: int64 where all values are whole numbers, else strings.
    """

    schema: Schema
    reader: Reader
    tables: tuple[InputFile, ...]
    asked: Asked
    first: str
    """The path of the file that the others have to be like."""
    types: _Types
    """The columns that are stored and asked for, as they are read."""
    partition_types: _Types
    sample_per_file: bool = False

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files of rows, and those that the reader needs to understand them."""
        return (*self.tables, *self.reader.beside())

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the list of files: a task names its own."""
        return type(self), (self.schema, self.reader, (), self.asked, self.first, self.types, self.partition_types)

    def tasks(self, task_bytes: int) -> list[Task]:
        """Files in order, packed to about `task_bytes`; a larger one is cut into its pieces."""
        large = [file for file in self.tables if file.bytes * _WHOLE > task_bytes]
        with ThreadPoolExecutor(_THREADS) as threads:
            pieces = dict(zip(large, threads.map(self._pieces, large), strict=True))
        out: list[Task] = []
        packed: list[InputFile] = []
        for file in self.tables:
            sizes = pieces.get(file, (file.bytes,))
            if sum(sizes) > task_bytes:
                out += [*_pack(packed, task_bytes), *_cut(file, sizes, task_bytes)]
                packed = []
            elif sizes:
                packed.append(file)
        return [*out, *_pack(packed, task_bytes)]

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The rows of a task. Raises InputError for a file that is damaged, has other columns, or is not what it was."""
        for file in task.files:
            check_unchanged(file)
            try:
                yield from self._read_file(file, range(task.start, task.stop or len(self._pieces(file))))
            except InputError:
                check_unchanged(file)  # which tells better what happened
                raise
            check_unchanged(file)

    def has_rows(self) -> bool:
        """Whether any file has a piece to read; at the first that has, the others are not looked at."""
        return any(self._pieces(file) for file in self.tables)

    def _pieces(self, file: InputFile) -> tuple[int, ...]:
        sizes: Any = self.reader.units(file)
        if not isinstance(sizes, Sequence) or not all(isinstance(size, int) for size in sizes):
            raise _misbehaves(self.reader, f"units() must give a sequence of int, the bytes of each piece, found {sizes!r}")
        return tuple(sizes)

    def _read_file(self, file: InputFile, units: range) -> Iterator[pa.RecordBatch]:
        _check_same(file, self.asked.only(_stored(self.reader, file, self.asked)), self.types, self.first)
        partitions = _partitions(file, self.asked)
        stored = {name: self.asked.column(name) for name in self.schema.names if name not in partitions}
        rows = 0
        for batch in self.reader.read(file, units, list(stored.values())):
            self._check_batch(batch, stored, units)
            yield self._batch(file, batch, stored, partitions, rows)
            rows += batch.num_rows

    def _check_batch(self, batch: pa.RecordBatch, stored: Mapping[str, str], units: range) -> None:
        if not isinstance(batch, pa.RecordBatch):
            raise _misbehaves(self.reader, f"read() must give pyarrow.RecordBatch, found {type(batch).__name__}")
        found = {column.name: column.type for column in batch.schema}
        for name, column in stored.items():
            if column not in found:
                raise _misbehaves(self.reader, f"read() was asked for the column {column!r}, its batch has only {list(found)}")
            kind = self.asked.read_type(name, found[column])
            if kind != self.types[name]:
                raise _misbehaves(
                    self.reader, f"schema() says that column {column!r} is {self.types[name]}, read() gave {kind}"
                )
        for name in (AT, REJECT):
            if name in found and found[name] != pa.string():
                raise _misbehaves(self.reader, f"the column {name!r} must hold strings, read() gave {found[name]}")
        if units.start and AT not in found:
            raise _misbehaves(
                self.reader, f"units() says that a file has several pieces; then the batches of read() need the column {AT!r}"
            )

    def _batch(
        self,
        file: InputFile,
        batch: pa.RecordBatch,
        stored: Mapping[str, str],
        partitions: Mapping[str, str | None],
        start: int,
    ) -> pa.RecordBatch:
        arrays, reasons = {}, dict[int, str]()
        for name in self.schema.names:
            if name in partitions:
                kind = self.partition_types[name]
                arrays[name] = pa.repeat(pa.scalar(partitions[name], pa.string()).cast(kind), batch.num_rows)
            else:
                column = batch.column(stored[name])
                arrays[name], bad = convert(column.cast(normal_type(column.type)), self.types[name])
                reasons |= {row: f"column {stored[name]!r}: {reason}" for row, reason in bad.items()}
        if AT in batch.schema.names:
            arrays["_source"] = pa.array([f"{file.name}{at}" for at in batch[AT].to_pylist()], pa.string())
        else:
            arrays["_source"] = row_sources(file.name, start, start + batch.num_rows)
        refused = batch[REJECT] if REJECT in batch.schema.names else None
        if reasons:
            own = pa.array([reasons.get(row) for row in range(batch.num_rows)], pa.string())
            refused = own if refused is None else pc.coalesce(refused, own)
        if refused is not None:
            arrays[REJECT] = refused
        return pa.RecordBatch.from_pydict(arrays)


def open_tables(
    reader: Reader,
    files: Sequence[InputFile],
    asked: Asked,
    *,
    expected: str,
) -> TableSource:
    """Files of the same columns, whatever their names are; `expected` says in messages what they should be ("Parquet files").

    Raises InputError for a file that is not of the format, for files whose columns differ, and where there is nothing to read;
    SchemaError for a column that can't be a field.
    """
    usable = select_files(files, lambda file: not is_documentation(file), expected=expected)
    first = next((file for file in usable if file.bytes), usable[0])  # an empty one may be good, but says nothing
    where = first.path
    names = _schema_of(reader, first).names
    asked.renamed(dict.fromkeys([*names, *_hive_folders(first)]), where=where)
    of_format = reader.fields()
    known = asked.only(dict(zip(asked.names(of_format), of_format.values(), strict=True)))
    asked = replace(asked, fields=_merge(known, asked.fields))
    found = _stored(reader, first, asked)
    stored = asked.only(found)
    partitions = {file: _partitions(file, asked) for file in usable}
    keys = {file: asked.only(dict.fromkeys(own, "partition")) for file, own in partitions.items()}
    for file in usable:
        _check_same(file, keys[file], keys[first], where)
    with ThreadPoolExecutor(_THREADS) as threads:
        others = threads.map(lambda file: _stored(reader, file, asked), usable[:_CHECKED])
        for file, other in zip(usable, others, strict=False):
            _check_same(file, asked.only(other), stored, where)
    partition_types = _partition_types(list(partitions[first]), list(partitions.values()), asked.fields)
    refused = reader.refused()
    why = dict(zip(asked.names(refused), refused.values(), strict=True))
    schema = _schema({**found, **partition_types}, asked, where, why)
    source = TableSource(schema, reader, usable, asked, where, stored, partition_types)
    if not source.has_rows():
        raise InputError(f"{where}: expected samples, found no row in {len(usable)} {expected}")
    return source


def _schema(types: _Types, asked: Asked, where: str, refused: Mapping[str, str]) -> Schema:
    inferred: dict[str, Declaration | str] = {
        name: f"{kind}; declare it float64, int64 or string" if pa.types.is_decimal(kind) else infer(kind)
        for name, kind in types.items()
    }
    inferred |= {name: why for name, why in refused.items() if name in types}
    schema = declare(inferred, asked, where=where)
    for field in schema:
        if not fits(field, types[field.name]):
            raise SchemaError(
                f"{where}: field {field.name!r} is declared {field.dtype} {field.shape}, which a column of "
                f"{types[field.name]} can't hold"
            )
    return schema


def _merge(of_format: Mapping[str, Declaration], of_user: Mapping[str, Declaration]) -> dict[str, Declaration]:
    return {name: {**of_format.get(name, {}), **of_user.get(name, {})} for name in {**of_format, **of_user}}


def _pack(files: Sequence[InputFile], task_bytes: int) -> list[Task]:
    return [replace(task, start=0, stop=0) for task in pack_files(files, task_bytes)]


def _cut(file: InputFile, sizes: tuple[int, ...], task_bytes: int) -> list[Task]:
    out: list[Task] = []
    start = size = 0
    for piece, piece_bytes in enumerate(sizes):
        if piece > start and size + piece_bytes > task_bytes:
            out.append(Task(files=(file,), start=start, stop=piece, bytes=size))
            start, size = piece, 0
        size += piece_bytes
    return [*out, Task(files=(file,), start=start, stop=len(sizes), bytes=size)]


def _schema_of(reader: Reader, file: InputFile) -> pa.Schema:
    schema = reader.schema(file)
    if not isinstance(schema, pa.Schema):
        raise _misbehaves(reader, f"schema() must give a pyarrow.Schema, found {type(schema).__name__}")
    return schema


def _stored(reader: Reader, file: InputFile, asked: Asked) -> _Types:
    """The columns of a file by the names of fields, as they are read."""
    schema = _schema_of(reader, file)
    names, partitions = asked.names(schema.names), _partitions(file, asked)
    here = [name for name in names if asked.columns is None or name in asked.columns]
    twice = sorted({name for name in here if here.count(name) > 1 or name in partitions})
    if twice:
        raise InputError(
            f"{file.path}: column {twice[0]!r} is there twice (hive partitions in folder names count); leave it out by "
            "read.columns"
        )
    return {name: asked.read_type(name, kind) for name, kind in zip(names, schema.types, strict=True)}


def _check_same(file: InputFile, here: Mapping[str, Any], there: Mapping[str, Any], first: str) -> None:
    if here != there:
        differ = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        shown = "; ".join(
            f"{show_name(name)}: {there.get(name, 'none')} there, {here.get(name, 'none')} here" for name in differ[:_SHOWN]
        )
        more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
        raise InputError(f"{file.path}: expected the columns of {first}, found others ({shown}{more}){_advice(here, there)}")


def _advice(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """What helps where only types differ."""
    return "; declare one dtype for both by read.fields" if here.keys() == there.keys() else ""


def _misbehaves(reader: Reader, problem: str) -> InputError:
    return InputError(f'read.format = "{type(reader).__module__}:{type(reader).__qualname__}": {problem}; correct the reader')


def _partitions(file: InputFile, asked: Asked) -> dict[str, str | None]:
    """The values of the folders that a file lies in, by the names of fields."""
    found = _hive_folders(file)
    return dict(zip(asked.names(found), found.values(), strict=True))


def _hive_folders(file: InputFile) -> dict[str, str | None]:
    """The values of the key=value folders in a file's name, decoded as Hive and Spark encode them."""
    pairs = [folder.partition("=") for folder in file.name.split("/")[:-1]]
    return {key: None if value == _NULL_PARTITION else unquote(value) for key, equals, value in pairs if key and equals}


def _partition_types(
    keys: Sequence[str], partitions: Sequence[Mapping[str, str | None]], declared: Mapping[str, Declaration]
) -> _Types:
    """As declared; else int64 where every value is a whole number, as Spark and Arrow have it."""
    out = {}
    for key in keys:
        values = [found.get(key) for found in partitions]
        whole = all(value is None or re.fullmatch(r"-?[0-9]{1,18}", value) for value in values)
        found = pa.int64() if whole else pa.string()
        kind = read_type(arrow_type(declared.get(key, {}), found), declared.get(key, {}))
        out[key] = kind if not convert(pa.array(values, pa.string()), kind)[1] else found
    return out
