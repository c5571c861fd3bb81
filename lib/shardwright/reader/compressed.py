"""Compressed columns: read by row group, the latest ones kept decompressed in a cache bounded in bytes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, DecodeError, ShardwrightError, StorageError
from shardwright.format.batch import is_masked, mask_name, to_arrays, to_numpy
from shardwright.format.layout import PAD, Column
from shardwright.reader.ahead import Units
from shardwright.reader.buffers import Buffers
from shardwright.reader.cache import RecentlyUsed
from shardwright.reader.catalog import Catalog
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import Finish
from shardwright.reader.fixed import Values
from shardwright.reader.grouped import ByRowGroup, Taken, take_rows
from shardwright.reader.threads import Step
from shardwright.schema import Field
from shardwright.storage.readahead import HeldRanges, Spans
from shardwright.transforms import Normalise

I64 = npt.NDArray[np.int64]


class CompressedColumns:
    """All compressed columns that are read; of the pad flag there is no field.

    Local values of a known width are taken for many batches at a time when they are located: that many row groups are read
    then, and sorted out, once.
    """

    def __init__(
        self, columns: Mapping[str, tuple[Column, Field | None]], catalog: Catalog, files: VersionFiles, cache: RecentlyUsed
    ) -> None:
        self.values = tuple(CompressedValues(column, field) for column, field in columns.values())
        self._columns = [column for column, _ in columns.values()]
        self._groups, self._files, self._cache = catalog.row_groups, files, cache
        widths = [_width(column) for column in self._columns]
        self._at_once = files.local and None not in widths
        self.sample_bytes = sum(width or 0 for width in widths) if self._at_once else 0
        """How much is taken for a sample when it is located."""

    def locate(self, indexes: I64, row_groups: I64) -> I64 | Taken:
        """The index and the row group of each value, shape (n, 2); or the values."""
        located = np.stack([indexes, row_groups], axis=1)
        if not self._at_once:
            return located
        try:
            return Taken(self._take(located, None))
        except (ShardwrightError, OSError):  # raised again when the batch is fetched that it is about
            return located

    def needs(self, located: I64 | Taken, units: Units) -> Spans:  # noqa: ARG002 - the protocol's
        """The column chunks of the row groups that the values lie in."""
        assert not isinstance(located, Taken)
        groups, back = np.unique(located[:, 1], return_inverse=True)
        parts = self._groups.part[groups]
        self._cache.prepare(np.unique(parts).tolist(), self._files.parquet, _footer_bytes)
        chunks = np.array([self._chunks(group) for group in groups.tolist()], np.int64)
        chunks = chunks.reshape(len(groups), len(self._columns), 2)
        return Spans.join([Spans(parts[back], *chunks[back, column].T) for column in range(len(self._columns))])

    def fetch(self, located: I64 | Taken, held: HeldRanges | None) -> list[Any]:
        """The stored values, in their order: as Arrow arrays, or those of one width as their bytes, uint8 (n, width)."""
        return located.values if isinstance(located, Taken) else self._take(located, held)

    def _take(self, located: I64, held: HeldRanges | None) -> list[Any]:
        if not len(located):
            return [values.stored(pa.array([], values.column.arrow_type)) for values in self.values]
        grouped = ByRowGroup(located[:, 0], located[:, 1], self._groups)
        pieces: list[list[pa.Array]] = [[] for _ in self.values]
        for group, rows in zip(grouped.groups.tolist(), grouped.rows, strict=True):
            for taken, values in zip(pieces, self._row_group(group, held), strict=True):
                taken.append(take_rows(values, rows))
        return [values.stored(grouped.in_order(taken)) for values, taken in zip(self.values, pieces, strict=True)]

    def _row_group(self, group: int, held: HeldRanges | None) -> list[pa.Array]:
        """All values of a row group."""
        counts, missed = self._cache.row_groups, False

        def read() -> list[pa.Array]:
            nonlocal missed
            missed = True
            return self._read(group, held)

        key = int(self._groups.part[group]), int(self._groups.number[group])
        values: list[pa.Array] = self._cache.get(key, read, lambda arrays: sum(array.nbytes for array in arrays))
        counts.hits, counts.misses = counts.hits + (not missed), counts.misses + missed
        return values

    def _file(self, part: int) -> pq.ParquetFile:
        return self._cache.get(part, lambda: self._files.parquet(part), _footer_bytes)

    def _chunks(self, group: int) -> list[tuple[int, int]]:
        """First and past-the-end byte of each column chunk of a row group."""
        metadata = self._file(int(self._groups.part[group])).metadata
        ordinals = {name: ordinal for ordinal, name in enumerate(metadata.schema.names)}
        found = metadata.row_group(int(self._groups.number[group]))
        out = []
        for column in self._columns:
            if (ordinal := ordinals.get(column.name)) is None:
                out.append((0, 0))
                continue
            chunk = found.column(ordinal)
            first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            out.append((first, first + chunk.total_compressed_size))
        return out

    def _read(self, group: int, held: HeldRanges | None) -> list[pa.Array]:
        part, number = int(self._groups.part[group]), int(self._groups.number[group])
        # not thread-safe: one of our own for each reading
        file = self._files.parquet(part, self._file(part).metadata, held)
        try:
            table = self._read_columns(file, number, self._columns)
        except StorageError:
            raise
        except (pa.ArrowException, OSError, KeyError):
            for column in self._columns:  # by themselves: which one is it?
                self._read_one(part, file, number, column)
            raise
        if len(table) != (expected := int(self._groups.samples[group])):
            raise CorruptError(
                f"{self._where(part)}: row group {number}: expected {expected} samples, found {len(table)}; copy the file again"
            )
        return [table[column.name].combine_chunks() for column in self._columns]

    def _read_columns(self, file: pq.ParquetFile, number: int, columns: Sequence[Column]) -> pa.Table:
        names = [column.name for column in columns]
        table = file.read_row_group(number, columns=names, use_threads=self._files.local)
        if PAD in names and PAD not in table.column_names:
            table = table.append_column(PAD, pa.array(np.zeros(file.metadata.row_group(number).num_rows, bool)))
        return pa.table({column.name: table[column.name].cast(column.arrow_type) for column in columns})

    def _read_one(self, part: int, file: pq.ParquetFile, number: int, column: Column) -> None:
        try:
            self._read_columns(file, number, [column])
        except StorageError:
            raise
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DecodeError(
                f"{self._where(part)}: row group {number} of {column.name!r} can't be read ({error}); copy the file again"
            ) from error

    def _where(self, part: int) -> str:
        return self._files.path(self._files.parts.name[part])


class CompressedValues:
    """Makes arrays of the stored values of one compressed column."""

    def __init__(self, column: Column, field: Field | None) -> None:
        self.name, self.column, self._field = column.name, column, field
        self._fixed = None
        if field is not None and column.stride and not column.nullable:
            stored = None if column.physical_dtype is None else column.arrow_type.to_pandas_dtype()
            self._fixed = Values(column, field, stored=stored)

    def stored(self, values: pa.Array) -> Any:
        """The bytes of values of one width; others as they are."""
        return values if self._fixed is None else _data(values, self.column)

    def steps(self, fetched: Any, batch: dict[str, npt.NDArray[Any]], finish: Finish, buffers: Buffers) -> list[Step]:
        """Those of values of one width; else one step: what `to_arrays` makes of the values."""
        if self._fixed is not None:
            return self._fixed.steps(fetched, batch, finish, buffers)
        batch[self.name] = np.empty(0)
        if self._field is not None and is_masked(self._field):
            batch[mask_name(self.name)] = np.empty(0)
        return [functools.partial(self._make, fetched, batch, finish.normalise)]

    def _make(self, fetched: pa.Array, batch: dict[str, npt.NDArray[Any]], normalise: Normalise | None) -> None:
        if self._field is None:
            batch[self.name] = to_numpy(fetched)
            return
        batch.update(to_arrays(self._field, fetched))
        if normalise is not None:
            batch[self.name] = normalise(batch[self.name])


def _width(column: Column) -> int | None:
    """Bytes of a value in memory, or None where they differ."""
    try:
        return -(-int(column.arrow_type.bit_width) // 8)
    except ValueError:
        return None


def _data(values: pa.Array, column: Column) -> npt.NDArray[np.uint8]:
    """The bytes of values of one width, without their header: uint8 of shape (n, width), contiguous."""
    width = column.arrow_type.bit_width // 8
    whole = np.frombuffer(values.buffers()[1], np.uint8) if len(values) else np.empty(0, np.uint8)
    rows = whole[values.offset * width : (values.offset + len(values)) * width].reshape(len(values), width)
    return np.ascontiguousarray(rows[:, len(column.header) :])


def _footer_bytes(file: pq.ParquetFile) -> int:
    return int(file.metadata.serialized_size)
