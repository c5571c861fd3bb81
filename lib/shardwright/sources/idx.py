"""IDX files, the format of MNIST: two zero bytes, type, number of dimensions, big-endian sizes, values in C order.

Format: https://yann.lecun.com/exdb/mnist/ (at the end of the page).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import InputError, SchemaError
from shardwright.format.layout import sample_type
from shardwright.schema import Field, Schema
from shardwright.sources.base import BATCH_BYTES, InputFile, Task
from shardwright.sources.columns import Declaration, declare
from shardwright.sources.files import select_files

_DTYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_NAME = re.compile(
    r"(?P<prefix>(?:.*?[^A-Za-z0-9])??)(?P<word>[A-Za-z][A-Za-z0-9]*)"  # train-, images
    r"(?:[-.]idx\d+(?:-\w+)?|\.idx)(?:\.idx)?(?:\.gz)?"  # -idx3-ubyte.gz, or .idx
)
_FIELDS = {"images": "image", "labels": "label"}
_EXPECTED = "files named <prefix>images-idx3-ubyte[.gz], <prefix>labels-idx1-ubyte[.gz] or the like"
_SOURCE_BYTES = 64
"""What a row of the `_source` column takes, about."""
_MAX_WIDTH = 2**31 - 1
"""Bytes of the widest sample that an Arrow column takes."""


@dataclass(frozen=True, kw_only=True)
class IdxFile:
    """One file whose header was read: `count` values of `dtype` and `shape` from byte `offset` (of what gzip holds) on."""

    file: InputFile
    field: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    offset: int
    gzipped: bool

    @property
    def width(self) -> int:
        """Bytes of one sample's value."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def show(self) -> str:
        """What one sample is, for messages."""
        return f"{self.dtype} {self.shape}"


@dataclass
class IdxSource:
    """Sets of IDX files, one file a field, one after the other. Rows of plain files are memory-mapped and never copied."""

    schema: Schema
    files: tuple[InputFile, ...]
    sets: tuple[tuple[IdxFile, ...], ...]
    sample_per_file: bool = False

    @property
    def addressable(self) -> bool:
        """For plain files of single bytes, kept as they are: others are decompressed, or turned to little-endian."""
        types = {field.name: sample_type(field) for field in self.schema}
        return all(
            not member.gzipped and np.dtype(member.dtype).itemsize == 1 and _type(member) == types[member.field]
            for members in self.sets
            for member in members
        )

    def unit(self, number: int) -> pa.RecordBatch:
        """One set of plain files as memory maps. Raises InputError when a file was changed since it was opened."""
        arrays = []
        for member in self.sets[number]:
            status = os.stat(member.file.path)
            if (status.st_size, status.st_mtime_ns) != (member.file.bytes, member.file.modified_ns):
                raise InputError(
                    f"{member.file.path}: was changed while it was read; run the job again when the input is complete"
                )
            with pa.memory_map(member.file.path) as file:
                file.seek(member.offset)
                arrays.append(_array(member, file.read_buffer(member.count * member.width), member.count))
        return pa.RecordBatch.from_arrays(arrays, names=list(self.schema.names))

    def tasks(self, task_bytes: int) -> list[Task]:
        """Row ranges of plain files; a set with a gzip file, which can't be entered in the middle, is one task."""
        out = []
        for members in self.sets:
            count, width = members[0].count, sum(member.width for member in members)
            rows = count if any(member.gzipped for member in members) else max(1, task_bytes // width)
            files = tuple(member.file for member in members)
            out += [
                Task(files=files, start=start, stop=min(start + rows, count), bytes=(min(start + rows, count) - start) * width)
                for start in range(0, count, rows or 1)
            ]
        return out

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The rows of a task, arrays as fixed-size binary. Raises InputError when a file holds less or more than promised."""
        number = next(number for number, members in enumerate(self.sets) if members[0].file == task.files[0])
        members = self.sets[number]
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


def open_idx(
    files: Sequence[InputFile], *, fields: Mapping[str, Declaration] | None = None, columns: Sequence[str] | None = None
) -> IdxSource:
    """The IDX files among `files`, those of one prefix as one set of samples: the word before `-idx3` names the field.

    Raises InputError for a header that is none or promises another size than the file has, for sets that differ, and for images
    and labels that differ in number.
    """
    usable = select_files(files, lambda file: _match(file) is not None, expected=_EXPECTED)
    sets = _group([_read_header(file) for file in usable])
    for members in sets:
        _check_set(members, sets[0])
    schema = _schema(sets[0], fields, columns)
    chosen = tuple(tuple(next(m for m in members if m.field == name) for name in schema.names) for members in sets)
    if not any(members[0].count for members in chosen):
        raise InputError(f"{chosen[0][0].file.path}: expected samples, found a header that promises none")
    return IdxSource(schema, tuple(member.file for members in chosen for member in members), chosen)


def row_sources(name: str, start: int, stop: int) -> pa.Array:
    """The `_source` column of rows [start, stop) of a file: '<name>#<row>'."""
    numbers = pc.cast(pa.array(np.arange(start, stop)), pa.string())
    return pc.binary_join_element_wise(pa.scalar(name), numbers, "#")


def _schema(members: tuple[IdxFile, ...], fields: Mapping[str, Declaration] | None, columns: Sequence[str] | None) -> Schema:
    inferred = {member.field: {"dtype": member.dtype, "shape": member.shape} for member in members}
    schema = declare(inferred, fields, columns, where=members[0].file.path)
    for member in members:
        if member.field in schema and member.shape and not _same_bytes(schema[member.field], member):
            field = schema[member.field]
            raise SchemaError(
                f"{member.file.path}: field {field.name!r} is declared {field.dtype} {field.shape}, the file holds "
                f"{member.show}; declare its dtype and as many values"
            )
    return schema


def _same_bytes(field: Field, member: IdxFile) -> bool:
    return field.fixed and field.dtype == member.dtype and field.nbytes == member.width


def _match(file: InputFile) -> re.Match[str] | None:
    return _NAME.fullmatch(file.name.rpartition("/")[2])


def _group(found: list[IdxFile]) -> list[tuple[IdxFile, ...]]:
    """The files of one folder and prefix together, arrays before numbers."""
    groups: dict[tuple[str, str], dict[str, IdxFile]] = {}
    for item in found:
        match = _match(item.file)
        assert match is not None
        group = groups.setdefault((item.file.path.rpartition("/")[0], match["prefix"]), {})
        other = group.setdefault(item.field, item)
        if other is not item:
            raise InputError(f"{other.file.path} and {item.file.path} both hold field {item.field!r} of one set; leave one out")
    return [tuple(sorted(g.values(), key=lambda item: (-len(item.shape), item.field))) for g in groups.values()]


def _check_set(members: tuple[IdxFile, ...], first: tuple[IdxFile, ...]) -> None:
    for member in members:
        if member.count != members[0].count:
            raise InputError(
                f"{member.file.path}: expected {members[0].count} values as in {members[0].file.path}, found {member.count}"
            )
    if [m.field for m in members] != [m.field for m in first]:
        raise InputError(
            f"{members[0].file.path}: expected the fields of {first[0].file.path} ({', '.join(m.field for m in first)}), found "
            f"{', '.join(m.field for m in members)}; every set needs the same files"
        )
    for member, other in zip(members, first, strict=True):
        if (member.dtype, member.shape) != (other.dtype, other.shape):
            raise InputError(f"{member.file.path}: expected {other.show} as in {other.file.path}, found {member.show}")


def _read_header(file: InputFile) -> IdxFile:
    try:
        with pa.OSFile(file.path) as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
        with _open(file.path, gzipped) as stream:
            head = stream.read(4)
            sizes = stream.read(4 * head[3]) if len(head) == 4 else b""
    except OSError as error:
        raise InputError(f"{file.path}: expected an IDX file, found one that can't be read ({error})") from error
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        kinds = ", ".join(f"{code:#04x} {name}" for code, name in _DTYPES.items())
        raise InputError(f"{file.path}: expected an IDX header (two zero bytes, a type: {kinds}), found {head!r}")
    dims = tuple(int(size) for size in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
    if head[3] == 0 or len(dims) != head[3] or 0 in dims[1:]:
        raise InputError(f"{file.path}: expected an IDX header with {max(head[3], 1)} sizes above 0, found {dims}")
    match = _match(file)
    assert match is not None
    field = _FIELDS.get(match["word"], match["word"])
    found = IdxFile(
        file=file, field=field, dtype=_DTYPES[head[2]], shape=dims[1:], count=dims[0], offset=4 + 4 * len(dims), gzipped=gzipped
    )
    _check_size(found)
    return found


def _check_size(found: IdxFile) -> None:
    if found.width > _MAX_WIDTH:
        raise InputError(f"{found.file.path}: expected samples below 2 GiB, found a header that says {found.show}")
    size = found.file.bytes - found.offset
    if not found.gzipped and size != found.count * found.width:
        raise InputError(f"{_promise(found)}, found {size}")


def _promise(found: IdxFile) -> str:
    promised = f"the header says {found.count} of {found.show}"
    return f"{found.file.path}: expected {found.count * found.width} bytes of values ({promised})"


def _open(path: str, gzipped: bool) -> Any:
    file = pa.memory_map(path)
    return pa.CompressedInputStream(file, "gzip") if gzipped else file


def _values(member: IdxFile, task: Task, rows: int) -> Iterator[pa.Array]:
    """The values of rows [start, stop), `rows` at a time; of plain files without a copy."""
    done = 0
    try:
        with _open(member.file.path, member.gzipped) as stream:
            if member.gzipped:
                stream.read(member.offset)
            else:
                stream.seek(member.offset + task.start * member.width)
            for start in range(task.start, task.stop, rows):
                count = min(rows, task.stop - start)
                buffer = stream.read_buffer(count * member.width)
                done += buffer.size
                if buffer.size != count * member.width:
                    raise InputError(f"{_promise(member)}, found {done}")
                yield _array(member, buffer, count)
            if member.gzipped and stream.read(1):  # also makes zlib check the checksum at the end
                raise InputError(f"{_promise(member)}, found more")
    except OSError as error:
        raise InputError(f"{_promise(member)}, found damage after {done} ({error})") from error


def _array(member: IdxFile, buffer: pa.Buffer, count: int) -> pa.Array:
    dtype = np.dtype(member.dtype)
    if dtype.itemsize > 1:
        buffer = pa.py_buffer(np.frombuffer(buffer, dtype.newbyteorder(">")).astype(dtype.newbyteorder("<")))
    return pa.Array.from_buffers(_type(member), count, [None, buffer])


def _type(member: IdxFile) -> pa.DataType:
    return pa.binary(member.width) if member.shape else pa.type_for_alias(member.dtype)
