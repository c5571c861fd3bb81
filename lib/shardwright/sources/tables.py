"""Files of rows and columns, whatever their format: what a `Reader` gives becomes a `Source`.

Hive partitions (`key=value` in the names of folders) are columns, files are packed into tasks, and every row says where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from shardwright.errors import InputError, SchemaError
from shardwright.schema import Schema
from shardwright.sources.base import AT, REJECT, InputFile, Reader, Task
from shardwright.sources.columns import Declaration, declare, fits, infer, normal_type
from shardwright.sources.files import is_documentation, select_files
from shardwright.sources.idx import row_sources

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass
class TableSource:
    """Rows of the files that `reader` reads. A task's units are the pieces of its files, counted through.

    Partition keys (`key=value` in the names of folders) are columns: int64 where all values are whole numbers, else strings.
    """

    schema: Schema
    reader: Reader
    files: tuple[InputFile, ...]
    units: tuple[tuple[int, ...], ...]
    """Bytes of each piece of each file."""
    partition_types: tuple[tuple[str, pa.DataType], ...] = ()
    sample_per_file: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the lists of files and pieces: a task names its own."""
        return type(self), (self.schema, self.reader, (), (), self.partition_types)

    @property
    def addressable(self) -> bool:
        """Never: values have to be decoded."""
        return False

    def unit(self, number: int) -> pa.RecordBatch:
        """Nothing can be taken from the input without reading it."""
        raise NotImplementedError

    def tasks(self, task_bytes: int) -> list[Task]:
        """Pieces in order, packed to about `task_bytes`: several of one file, or several whole files."""
        out: list[Task] = []
        packed: list[InputFile] = []
        pieces = size = 0
        for file, sizes in zip(self.files, self.units, strict=True):
            total = sum(sizes)
            if packed and size + total > task_bytes:
                out.append(Task(files=tuple(packed), start=0, stop=pieces, bytes=size))
                packed, pieces, size = [], 0, 0
            if total > task_bytes:
                out += _cut(file, sizes, task_bytes)
            elif sizes:
                packed.append(file)
                pieces, size = pieces + len(sizes), size + total
        return [*out, Task(files=tuple(packed), start=0, stop=pieces, bytes=size)] if packed else out

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The rows of a task's pieces. Raises InputError for a damaged file."""
        first = 0
        for file in task.files:
            pieces = len(self.reader.units(file))
            yield from self._read_file(file, range(max(task.start - first, 0), min(task.stop - first, pieces)))
            first += pieces

    def _read_file(self, file: InputFile, units: range) -> Iterator[pa.RecordBatch]:
        partitions = _partitions(file)
        stored = [name for name in self.schema.names if name not in partitions]
        rows = 0
        for batch in self.reader.read(file, units, stored):
            yield self._batch(file, batch, partitions, rows)
            rows += batch.num_rows

    def _batch(
        self, file: InputFile, batch: pa.RecordBatch, partitions: Mapping[str, str | None], start: int
    ) -> pa.RecordBatch:
        types = dict(self.partition_types)
        arrays = {}
        for name in self.schema.names:
            if name in partitions:
                arrays[name] = pa.repeat(pa.scalar(partitions[name], pa.string()).cast(types[name]), batch.num_rows)
            else:
                array = batch.column(name)
                arrays[name] = array.cast(normal_type(array.type))
        if AT in batch.schema.names:
            arrays["_source"] = pa.array([f"{file.name}{at}" for at in batch[AT].to_pylist()], pa.string())
        else:
            arrays["_source"] = row_sources(file.name, start, start + batch.num_rows)
        if REJECT in batch.schema.names:
            arrays[REJECT] = batch[REJECT]
        return pa.RecordBatch.from_pydict(arrays)


def open_tables(
    reader: Reader,
    files: Sequence[InputFile],
    *,
    expected: str,
    fields: Mapping[str, Declaration] | None = None,
    columns: Sequence[str] | None = None,
) -> TableSource:
    """Files of the same columns, whatever their names are; `expected` says in messages what they should be ("Parquet files").

    Raises InputError for a file that is not of the format, for files whose columns differ, and where there is nothing to read;
    SchemaError for a column that can't be a field.
    """
    usable = select_files(files, lambda file: not is_documentation(file), expected=expected)
    found = [_columns(reader, file, columns) for file in usable]
    partitions = [_partitions(file) for file in usable]
    for file, types, keys in zip(usable, found, partitions, strict=True):
        _check_same((file, types, keys), (usable[0], found[0], partitions[0]), columns)
    partition_types = _partition_types(partitions, fields)
    types = {**found[0], **partition_types}
    where = usable[0].path
    schema = declare({name: infer(kind) for name, kind in types.items()}, fields, columns, where=where)
    for field in schema:
        if not fits(field, types[field.name]):
            raise SchemaError(
                f"{where}: field {field.name!r} is declared {field.dtype} {field.shape}, which a column of "
                f"{types[field.name]} can't hold"
            )
    units = tuple(tuple(reader.units(file)) for file in usable)
    if not any(units):
        raise InputError(f"{where}: expected samples, found no row in {len(usable)} {expected}")
    return TableSource(schema, reader, usable, units, tuple((n, k) for n, k in partition_types.items() if n in schema))


def _cut(file: InputFile, sizes: tuple[int, ...], task_bytes: int) -> list[Task]:
    out: list[Task] = []
    start = size = 0
    for piece, piece_bytes in enumerate(sizes):
        if piece > start and size + piece_bytes > task_bytes:
            out.append(Task(files=(file,), start=start, stop=piece, bytes=size))
            start, size = piece, 0
        size += piece_bytes
    return [*out, Task(files=(file,), start=start, stop=len(sizes), bytes=size)]


def _columns(reader: Reader, file: InputFile, columns: Sequence[str] | None) -> dict[str, pa.DataType]:
    schema = reader.schema(file)
    partitions = _partitions(file)
    names = [name for name in schema.names if columns is None or name in columns]
    twice = sorted({name for name in names if names.count(name) > 1 or name in partitions})
    if twice:
        raise InputError(
            f"{file.path}: column {twice[0]!r} is there twice (hive partitions in folder names count); leave it out by "
            "`columns`"
        )
    return {column.name: normal_type(column.type) for column in schema}


_Found = tuple[InputFile, dict[str, pa.DataType], dict[str, str | None]]


def _check_same(one: _Found, first: _Found, columns: Sequence[str] | None) -> None:
    here, there = ({**types, **dict.fromkeys(keys, "partition")} for _, types, keys in (one, first))
    if columns is not None:
        here, there = ({n: k for n, k in types.items() if n in columns} for types in (here, there))
    if here != there:
        differ = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        shown = "; ".join(f"{name!r}: {there.get(name, 'none')} there, {here.get(name, 'none')} here" for name in differ)
        raise InputError(f"{one[0].path}: expected the columns of {first[0].path}, found others ({shown})")


def _partitions(file: InputFile) -> dict[str, str | None]:
    """key=value folders in a file's name, decoded as Hive and Spark encode them."""
    pairs = [folder.partition("=") for folder in file.name.split("/")[:-1]]
    return {key: None if value == _NULL_PARTITION else unquote(value) for key, equals, value in pairs if key and equals}


def _partition_types(
    partitions: Sequence[Mapping[str, str | None]], fields: Mapping[str, Declaration] | None
) -> dict[str, pa.DataType]:
    """int64 where every value is a whole number, as Spark and Arrow have it, unless the field is declared a string."""
    out = {}
    for key in partitions[0]:
        values = [found[key] for found in partitions]
        whole = all(value is None or re.fullmatch(r"-?[0-9]{1,18}", value) for value in values)
        text = (fields or {}).get(key, {}).get("dtype") == "string"
        out[key] = pa.int64() if whole and not text else pa.string()
    return out
