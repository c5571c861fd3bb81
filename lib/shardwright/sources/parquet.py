"""Parquet files and folders of them, hive partitions included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import InputError, SchemaError
from shardwright.schema import Schema
from shardwright.sources.base import BATCH_BYTES, InputFile, Task
from shardwright.sources.columns import Declaration, declare, fits, infer, normal_type
from shardwright.sources.files import is_documentation, select_files
from shardwright.sources.idx import row_sources

_MAX_ROWS = 2**16
"""Rows of a batch at most: columns of few distinct values grow when they are decoded."""
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True)
class _Footer:
    """What the end of one file says: the types of its columns, as read, and the partitions in its name."""

    file: InputFile
    types: dict[str, pa.DataType]
    partitions: dict[str, str | None]
    row_groups: tuple[tuple[int, int], ...]
    """Samples and uncompressed bytes of each."""


@dataclass
class ParquetSource:
    """Rows of Parquet files. A task's units are the row groups of its files, counted through.

    Partition keys (`key=value` in the names of folders) are columns: int64 where all values are whole numbers, else strings.
    """

    schema: Schema
    files: tuple[InputFile, ...]
    row_groups: tuple[tuple[int, ...], ...]
    """Uncompressed bytes of each row group of each file."""
    partition_types: tuple[tuple[str, pa.DataType], ...] = ()
    sample_per_file: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the lists of files and row groups: a task names its own."""
        return type(self), (self.schema, (), (), self.partition_types)

    @property
    def addressable(self) -> bool:
        """Never: values have to be decoded."""
        return False

    def unit(self, number: int) -> pa.RecordBatch:
        """Nothing can be taken from the input without reading it."""
        raise NotImplementedError

    def tasks(self, task_bytes: int) -> list[Task]:
        """Row groups in order, packed to about `task_bytes`: several of one file, or several whole files."""
        out: list[Task] = []
        packed: list[InputFile] = []
        groups = size = 0
        for file, sizes in zip(self.files, self.row_groups, strict=True):
            total = sum(sizes)
            if packed and size + total > task_bytes:
                out.append(Task(files=tuple(packed), start=0, stop=groups, bytes=size))
                packed, groups, size = [], 0, 0
            if total > task_bytes:
                out += _cut(file, sizes, task_bytes)
            elif sizes:
                packed.append(file)
                groups, size = groups + len(sizes), size + total
        return [*out, Task(files=tuple(packed), start=0, stop=groups, bytes=size)] if packed else out

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The rows of a task's row groups. Raises InputError for a damaged file."""
        first = 0
        for file in task.files:
            with _open(file) as parquet:
                groups = parquet.metadata.num_row_groups
                chosen = range(max(task.start - first, 0), min(task.stop - first, groups))
                yield from self._read_file(file, parquet, chosen)
            first += groups

    def _read_file(self, file: InputFile, parquet: pq.ParquetFile, groups: range) -> Iterator[pa.RecordBatch]:
        partitions = _partitions(file)
        stored = [name for name in self.schema.names if name not in partitions]
        sizes = _row_groups(parquet, stored)
        samples, size = (sum(sizes[group][i] for group in groups) for i in (0, 1))
        rows = max(1, min(BATCH_BYTES * samples // max(size, 1), _MAX_ROWS))
        start = sum(count for count, _ in sizes[: groups.start])
        try:
            for batch in parquet.iter_batches(rows, list(groups), stored, use_threads=False):
                yield self._batch(file, batch, start)
                start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error

    def _batch(self, file: InputFile, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        types, partitions = dict(self.partition_types), _partitions(file)
        arrays = []
        for name in self.schema.names:
            if name in partitions:
                value = partitions[name]
                text = pa.scalar(value, pa.string())
                arrays.append(pa.repeat(text.cast(types[name]), len(batch)))
            else:
                array = batch.column(name)
                arrays.append(array.cast(normal_type(array.type)))
        sources = row_sources(file.name, start, start + len(batch))
        return pa.RecordBatch.from_arrays([*arrays, sources], names=[*self.schema.names, "_source"])


def open_parquet(
    files: Sequence[InputFile], *, fields: Mapping[str, Declaration] | None = None, columns: Sequence[str] | None = None
) -> ParquetSource:
    """Parquet files of the same columns, whatever their names are.

    Raises InputError for a file that is not Parquet, for files whose columns differ, and where there is no row; SchemaError for
    a column that can't be a field.
    """
    usable = select_files(files, lambda file: not is_documentation(file), expected="Parquet files")
    footers = [_read_footer(file, columns) for file in usable]
    first = footers[0]
    for footer in footers:
        _check_same(footer, first, columns)
    partition_types = _partition_types(footers, fields)
    types = {**first.types, **partition_types}
    schema = declare({name: infer(kind) for name, kind in types.items()}, fields, columns, where=first.file.path)
    for field in schema:
        if not fits(field, types[field.name]):
            raise SchemaError(
                f"{first.file.path}: field {field.name!r} is declared {field.dtype} {field.shape}, which a column of "
                f"{types[field.name]} can't hold"
            )
    if not any(samples for footer in footers for samples, _ in footer.row_groups):
        raise InputError(f"{first.file.path}: expected samples, found no row in {len(footers)} Parquet files")
    sizes = tuple(tuple(size for _, size in footer.row_groups) for footer in footers)
    return ParquetSource(schema, usable, sizes, tuple((n, k) for n, k in partition_types.items() if n in schema))


def _cut(file: InputFile, sizes: tuple[int, ...], task_bytes: int) -> list[Task]:
    out: list[Task] = []
    start = size = 0
    for group, group_bytes in enumerate(sizes):
        if group > start and size + group_bytes > task_bytes:
            out.append(Task(files=(file,), start=start, stop=group, bytes=size))
            start, size = group, 0
        size += group_bytes
    return [*out, Task(files=(file,), start=start, stop=len(sizes), bytes=size)]


def _open(file: InputFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.path, memory_map=True, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: InputFile, error: Exception) -> InputError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{file.path}: expected a Parquet file, found one that can't be read ({text})")


def _read_footer(file: InputFile, columns: Sequence[str] | None) -> _Footer:
    partitions = _partitions(file)
    with _open(file) as parquet:
        try:
            schema = parquet.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error
        names = [name for name in schema.names if columns is None or name in columns]
        twice = sorted({name for name in names if names.count(name) > 1 or name in partitions})
        if twice:
            raise InputError(
                f"{file.path}: column {twice[0]!r} is there twice (hive partitions in folder names count); leave it out by "
                "`columns`"
            )
        types = {column.name: normal_type(column.type) for column in schema}
        return _Footer(file=file, types=types, partitions=partitions, row_groups=tuple(_row_groups(parquet, names)))


def _row_groups(parquet: pq.ParquetFile, names: Sequence[str]) -> list[tuple[int, int]]:
    """Rows of each row group, and the bytes of those columns in it."""
    metadata = parquet.metadata
    wanted = set(names)
    leaves = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path.partition(".")[0] in wanted]
    out = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        out.append((group.num_rows, sum(group.column(leaf).total_uncompressed_size for leaf in leaves)))
    return out


def _check_same(footer: _Footer, first: _Footer, columns: Sequence[str] | None) -> None:
    here, there = ({**f.types, **dict.fromkeys(f.partitions, "partition")} for f in (footer, first))
    if columns is not None:
        here, there = ({n: k for n, k in types.items() if n in columns} for types in (here, there))
    if here != there:
        differ = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        shown = "; ".join(f"{name!r}: {there.get(name, 'none')} there, {here.get(name, 'none')} here" for name in differ)
        raise InputError(f"{footer.file.path}: expected the columns of {first.file.path}, found others ({shown})")


def _partitions(file: InputFile) -> dict[str, str | None]:
    """key=value folders in a file's name, decoded as Hive and Spark encode them."""
    pairs = [folder.partition("=") for folder in file.name.split("/")[:-1]]
    return {key: None if value == _NULL_PARTITION else unquote(value) for key, equals, value in pairs if key and equals}


def _partition_types(footers: Sequence[_Footer], fields: Mapping[str, Declaration] | None) -> dict[str, pa.DataType]:
    """int64 where every value is a whole number, as Spark and Arrow have it, unless the field is declared a string."""
    out = {}
    for key in footers[0].partitions:
        values = [footer.partitions[key] for footer in footers]
        whole = all(value is None or re.fullmatch(r"-?[0-9]{1,18}", value) for value in values)
        text = (fields or {}).get(key, {}).get("dtype") == "string"
        out[key] = pa.int64() if whole and not text else pa.string()
    return out
