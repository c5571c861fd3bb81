"""What a raw input format has to offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from shardwright.schema import Schema

BATCH_BYTES = 16 * 2**20
"""Readers cut their batches at about this size; a batch holds at least one sample."""

MAX_VALUE_BYTES = 2**31 - 2**20
"""Of a value in an Arrow column, next to the little that may come with it."""

REJECT = "_reject"
"""Column of batches as read, where the source itself refuses rows: the reason, or null for a good row."""
AT = "_at"
"""Column of a `Reader`'s batches: where in its file each row is, as people find it: '#17' (row 17), '@1024' (byte 1024)."""


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of an input: `path` is absolute, or a URL; `name` is relative to the input's root ('/'-separated)."""

    path: str
    name: str
    bytes: int
    modified_ns: int
    """Since 1970; 0 where the storage does not say."""

    @property
    def remote(self) -> bool:
        """Whether it lies on another machine: then `sources.open_input` opens it, and nothing maps it."""
        return not self.path.startswith("/")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A piece of the input that one Spark task reads: files, and the units [start, stop) in them (what a unit is, the format
    says: a row, a row group; of no meaning where a task reads its files whole).
    """

    files: tuple[InputFile, ...]
    start: int
    stop: int
    bytes: int


class Source(Protocol):
    """An opened input. It is small and goes to the executors; only `read` runs there.

    The batches of `read` have one column per field of `schema`, in order, *as read* (before clean: any Arrow type; a
    fixed-size binary column holds C-order little-endian bytes of the field's shape), and a string column `_source` that says
    for people where each sample came from. They may have a string column `REJECT`.
    """

    schema: Schema
    sample_per_file: bool
    """One sample a file: then `_source` is the file's name relative to the root, and the sample key is made from it."""

    @property
    def files(self) -> tuple[InputFile, ...]:
        """All that is read, in order."""

    @property
    def addressable(self) -> bool:
        """Whether later passes can take samples from the input itself, with `unit`, where they would have to be staged else.

        The batches of `read` then also have the columns `_unit` (int32) and `_row` (int64), and all columns are in their
        `layout.sample_type`.
        """

    def tasks(self, task_bytes: int) -> list[Task]:
        """The input cut into tasks of about `task_bytes` where the format can be cut."""

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The samples of a task. Raises InputError when the file as a whole is not what it claims to be."""

    def unit(self, number: int) -> pa.RecordBatch:
        """All samples of one unit of an addressable source, in place: nothing is read before it is looked at.

        Raises InputError when a file is no longer what it was when the source was opened.
        """


class Decoded:
    """The half of a source whose values have to be decoded: later passes take them from where they were staged."""

    @property
    def addressable(self) -> bool:
        """Never."""
        return False

    def unit(self, number: int) -> pa.RecordBatch:
        """Nothing can be taken from the input without reading it."""
        raise NotImplementedError


class Reader:
    """One file format of tables: rows of named columns. The base class of a team's own: ``read.format = "pkg.mod:Reader"``.

    It is made once, in the driver, with the keys of ``[read.options]`` as keyword arguments, and travels to the executors: keep
    it small. Sample keys, quarantine, hive partitions, lineage and equal shards come from what calls it.
    """

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns of a file, in the types that `read` gives. Raises InputError for a file that is not of this format.

        It is asked of the first file first, and again of every file where that is read: the answers have to be the same.
        """
        raise NotImplementedError

    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """What the format knows of columns better than their Arrow types say: dtype, shape, codec, nullable. Else nothing.

        Asked once, after the first `schema`. What the user declares by ``read.fields`` stands above it.
        """
        return {}

    def refused(self) -> Mapping[str, str]:
        """Columns of which no field can be made, and why ("complex64 in an array"), unless the user declares their dtype.

        Asked after the first `schema`.
        """
        return {}

    def beside(self) -> Sequence[InputFile]:
        """Files without rows that say what is in the others: they are inputs too. Asked after the first `schema`."""
        return ()

    def units(self, file: InputFile) -> Sequence[int]:
        """The bytes of each piece of a file that can be read by itself; by default a file is one piece."""
        return (file.bytes,)

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of the pieces `units`, with these columns (by name, in any order), in batches of about `BATCH_BYTES`.

        A batch may have the columns `AT` (needed where a file has several pieces; else rows are counted) and `REJECT`.
        Raises InputError when the file as a whole is not what it claims to be.
        """
        raise NotImplementedError
