"""Arrays in files whose rows are samples: sets of files or members, one a field; read in row ranges, local ones mapped."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import InputError, SchemaError
from shardwright.format.layout import sample_type
from shardwright.schema import Field, Schema
from shardwright.sources.base import BATCH_BYTES, InputFile, Task
from shardwright.sources.columns import Asked, declare
from shardwright.sources.inputs import check_unchanged, open_arrow, open_input

_SOURCE_BYTES = 64
"""What a row of the `_source` column takes, about."""
_MAX_WIDTH = 2**31 - 1
"""Bytes of the widest sample that an Arrow column takes."""


@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """One array whose header was read: `count` rows of `shape` from byte `offset` (of what is compressed) on."""

    file: InputFile
    field: str
    stored: str
    """NumPy's `dtype.str` of the values in the file."""
    shape: tuple[int, ...]
    count: int
    offset: int
    fortran: bool = False
    """The values are in Fortran order."""
    gzipped: bool = False
    member: str | None = None
    """The member of a zip file that holds the array compressed; None where it lies in the file as it is."""

    @property
    def width(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.stored).itemsize

    @property
    def dtype(self) -> str:
        """The dtype of the field."""
        kind = np.dtype(self.stored)
        return {"U": "string", "S": "bytes", "M": "timestamp"}.get(kind.kind, kind.name)

    @property
    def show(self) -> str:
        """What one sample is, for messages."""
        return f"{self.dtype} {self.shape}"

    @property
    def streamed(self) -> bool:
        """Whether it has to be read from the beginning: what is compressed, and Fortran order that can't be mapped."""
        return self.gzipped or self.member is not None or (self.fortran and self.file.remote)

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the column as read."""
        if self.shape:
            return pa.binary(self.width)
        return {"string": pa.string(), "bytes": pa.binary(), "timestamp": pa.timestamp("us")}.get(
            self.dtype
        ) or pa.type_for_alias(self.dtype)

    @property
    def in_place(self) -> bool:
        """Whether the bytes in the file are those of the column."""
        kind = np.dtype(self.stored)
        little = kind.newbyteorder("<") == kind
        aligned = bool(self.shape) or self.offset % kind.itemsize == 0
        return not self.streamed and not self.fortran and little and aligned and kind.kind in ("iufb" if self.shape else "iuf")


@dataclass
class ArraySource:
    """Sets of arrays, one a field, one set after the other. Rows of plain local files are memory-mapped and never copied."""

    schema: Schema
    files: tuple[InputFile, ...]
    sets: tuple[tuple[ArrayFile, ...], ...]
    sample_per_file: bool = False

    @property
    def addressable(self) -> bool:
        """Where all files are local and values kept as they lie there: neither compressed nor turned to another byte order."""
        types = {field.name: sample_type(field) for field in self.schema}
        every = [member for members in self.sets for member in members]
        return all(not one.file.remote and one.in_place and one.arrow_type == types[one.field] for one in every)

    def unit(self, number: int) -> pa.RecordBatch:
        """One set of plain files as memory maps. Raises InputError when a file was changed since it was opened."""
        arrays = []
        for member in self.sets[number]:
            check_unchanged(member.file)
            with pa.memory_map(member.file.path) as file:
                file.seek(member.offset)
                buffer = file.read_buffer(member.count * member.width)
                arrays.append(pa.Array.from_buffers(member.arrow_type, member.count, [None, buffer]))
        return pa.RecordBatch.from_arrays(arrays, names=list(self.schema.names))

    def tasks(self, task_bytes: int) -> list[Task]:
        """Row ranges of plain files; a set with one that can't be entered in the middle is one task."""
        out = []
        for members in self.sets:
            count, width = members[0].count, sum(member.width for member in members)
            rows = count if any(member.streamed for member in members) else max(1, task_bytes // max(width, 1))
            files = tuple(dict.fromkeys(member.file for member in members))
            out += [
                Task(files=files, start=start, stop=min(start + rows, count), bytes=(min(start + rows, count) - start) * width)
                for start in range(0, count, rows or 1)
            ]
        return out

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The rows of a task, arrays as fixed-size binary. Raises InputError when a file holds less or more than promised."""
        number = next(number for number, members in enumerate(self.sets) if members[0].file == task.files[0])
        members = self.sets[number]
        for file in task.files:
            check_unchanged(file)
        rows = max(1, BATCH_BYTES // (sum(member.width for member in members) + _SOURCE_BYTES))
        names = [*self.schema.names, "_source", *(["_unit", "_row"] if self.addressable else [])]
        start = task.start
        for arrays in zip(*(_values(member, task, rows) for member in members), strict=True):
            stop = start + len(arrays[0])
            columns = [*arrays, row_sources(task.files[0].name, start, stop)]
            if self.addressable:
                columns += [pa.repeat(pa.scalar(number, pa.int32()), stop - start), pa.array(np.arange(start, stop))]
            yield pa.RecordBatch.from_arrays(columns, names=names)
            start = stop
        for file in task.files:
            check_unchanged(file)


def open_arrays(
    sets: Sequence[tuple[ArrayFile, ...]],
    asked: Asked,
) -> ArraySource:
    """Sets of arrays of the same fields as one source.

    Raises InputError for arrays of one set that differ in number, for sets that differ in fields, and where all are empty;
    SchemaError for fields that can't be.
    """
    for members in sets:
        _check_set(members, sets[0])
    where = sets[0][0].file.path
    names = list(asked.renamed({member.field: member for member in sets[0]}, where=where))
    schema = _schema([replace(member, field=name) for name, member in zip(names, sets[0], strict=True)], asked)
    places = [names.index(name) for name in schema.names]
    chosen = tuple(
        tuple(replace(members[place], field=name) for place, name in zip(places, schema.names, strict=True)) for members in sets
    )
    if not any(members[0].count for members in chosen):
        raise InputError(f"{chosen[0][0].file.path}: expected samples, found a header that promises none")
    files = dict.fromkeys(member.file for members in chosen for member in members)
    return ArraySource(schema, tuple(files), chosen)


def row_sources(name: str, start: int, stop: int) -> pa.Array:
    """The `_source` column of rows [start, stop) of a file: '<name>#<row>'."""
    numbers = pc.cast(pa.array(np.arange(start, stop)), pa.string())
    return pc.binary_join_element_wise(pa.scalar(name), numbers, "#")


def check_size(found: ArrayFile, size: int | None) -> None:
    """Raise InputError unless `size` bytes are what the header promises, or not known (None), and a sample can be held."""
    if found.width > _MAX_WIDTH:
        raise InputError(f"{found.file.path}: expected samples below 2 GiB, found a header that says {found.show}")
    if size is not None and size != found.count * found.width:
        raise InputError(f"{_promise(found)}, found {size}")


def _schema(members: Sequence[ArrayFile], asked: Asked) -> Schema:
    inferred = {member.field: {"dtype": member.dtype, "shape": member.shape} for member in members}
    schema = declare(inferred, asked, where=members[0].file.path)
    for member in members:
        if member.field in schema and member.shape and not _same_bytes(schema[member.field], member):
            field = schema[member.field]
            raise SchemaError(
                f"{member.file.path}: field {field.name!r} is declared {field.dtype} {field.shape}, the file holds "
                f"{member.show}; declare its dtype and as many values"
            )
    return schema


def _same_bytes(field: Field, member: ArrayFile) -> bool:
    return field.fixed and field.dtype == member.dtype and field.nbytes == member.width


def _check_set(members: tuple[ArrayFile, ...], first: tuple[ArrayFile, ...]) -> None:
    for member in members:
        if member.count != members[0].count:
            raise InputError(
                f"{member.file.path}: expected {members[0].count} values as in {members[0].file.path}, found {member.count} "
                f"({members[0].field!r} and {member.field!r} are fields of the same rows)"
            )
    if [m.field for m in members] != [m.field for m in first]:
        raise InputError(
            f"{members[0].file.path}: expected the fields of {first[0].file.path} ({', '.join(m.field for m in first)}), found "
            f"{', '.join(m.field for m in members)}; every set needs the same files"
        )
    for member, other in zip(members, first, strict=True):
        if (member.dtype, member.shape) != (other.dtype, other.shape):
            raise InputError(f"{member.file.path}: expected {other.show} as in {other.file.path}, found {member.show}")


def _promise(found: ArrayFile) -> str:
    promised = f"the header says {found.count} of {found.show}"
    return f"{found.file.path}: expected {found.count * found.width} bytes of values ({promised})"


def _values(member: ArrayFile, task: Task, rows: int) -> Iterator[pa.Array]:
    """The values of rows [start, stop), `rows` at a time; of plain local files without a copy."""
    ranges = [(start, min(rows, task.stop - start)) for start in range(task.start, task.stop, rows)]
    if member.streamed:
        yield from _streamed(member, ranges)
    elif member.fortran:
        shape = (member.count, *member.shape)
        mapped = np.memmap(member.file.path, member.stored, "r", member.offset, shape, "F")
        for start, count in ranges:
            yield _array(member, pa.py_buffer(np.ascontiguousarray(mapped[start : start + count])), count)
    else:
        with open_arrow(member.file, mapped=True) as stream:
            stream.seek(member.offset + task.start * member.width)
            for _, count in ranges:
                yield _array(member, stream.read_buffer(count * member.width), count)


def _streamed(member: ArrayFile, ranges: Sequence[tuple[int, int]]) -> Iterator[pa.Array]:
    """The values of an array that is read from the beginning, all of it."""
    done = 0
    whole = b""
    try:
        with _open(member) as stream:
            stream.read(member.offset)
            for start, count in ranges:
                # Fortran order has the first row's last value near the end: all of it has to be there
                if member.fortran:
                    whole = whole or _rows_first(member, stream.read(member.count * member.width))
                    data = whole[start * member.width : (start + count) * member.width]
                else:
                    data = stream.read(count * member.width)
                done += len(data)
                if len(data) != count * member.width:
                    raise InputError(f"{_promise(member)}, found {done}")
                yield _array(member, pa.py_buffer(data), count)
            if stream.read(1):  # also makes zlib check the checksum at the end
                raise InputError(f"{_promise(member)}, found more")
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{_promise(member)}, found damage after {done} ({error})") from error


def _rows_first(member: ArrayFile, data: bytes) -> bytes:
    """Values in C order; as they are where some are missing."""
    if len(data) != member.count * member.width:
        return data
    return np.ndarray((member.count, *member.shape), member.stored, data, order="F").tobytes()


@contextmanager
def _open(member: ArrayFile) -> Iterator[Any]:
    if member.gzipped:
        with pa.CompressedInputStream(open_arrow(member.file, mapped=True), "gzip") as stream:
            yield stream
        return
    with open_input(member.file) as raw:
        if member.member is None:
            yield raw
        else:
            with zipfile.ZipFile(raw) as archive, archive.open(member.member) as stream:
                yield stream


def _array(member: ArrayFile, buffer: pa.Buffer, count: int) -> pa.Array:
    kind = np.dtype(member.stored)
    if member.in_place:
        return pa.Array.from_buffers(member.arrow_type, count, [None, buffer])
    values = np.frombuffer(buffer, kind)
    if member.shape or kind.kind in "iuf":
        little = pa.py_buffer(values.astype(kind.newbyteorder("<"), copy=buffer.address % kind.itemsize != 0))
        return pa.Array.from_buffers(member.arrow_type, count, [None, little])
    if kind.kind == "M":
        values = values.astype("<M8[us]")
    return pa.array(values.astype(kind.newbyteorder("<")) if kind.kind in "US" else values, member.arrow_type)
