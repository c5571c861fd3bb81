"""Compressed columns: read by row group, the latest ones kept decompressed in a cache bounded in bytes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import DecodeError, StorageError
from shardwright.format.batch import is_masked, mask_name, to_arrays, to_numpy
from shardwright.format.layout import PAD, Column
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.reader.ahead import Units
from shardwright.reader.buffers import Buffers
from shardwright.reader.cache import RecentlyUsed
from shardwright.reader.catalog import Catalog
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import Finish
from shardwright.reader.fixed import Values
from shardwright.reader.threads import Step
from shardwright.schema import Field
from shardwright.storage.readahead import HeldRanges, Spans
from shardwright.transforms import Normalise

I64 = npt.NDArray[np.int64]


class CompressedColumn:
    """The values of one compressed column; `field` is None for the pad flag."""

    def __init__(self, column: Column, field: Field | None, catalog: Catalog, files: VersionFiles, cache: RecentlyUsed) -> None:
        self._column, self._field = column, field
        self._groups, self._files, self._cache = catalog.row_groups, files, cache

    def locate(self, indexes: I64, row_groups: I64) -> I64:  # noqa: ARG002 - the protocol's
        """The index itself."""
        return indexes

    def needs(self, located: I64, units: Units) -> Spans:  # noqa: ARG002 - the protocol's
        """The column chunks of the row groups that the values lie in."""
        groups, back = np.unique(self._groups.find(located), return_inverse=True)
        self._cache.prepare(np.unique(self._groups.part[groups]).tolist(), self._files.parquet, _footer_bytes)
        chunks = np.array([self._chunk(group) for group in groups.tolist()], np.int64).reshape(len(groups), 2)
        return Spans(self._groups.part[groups][back], chunks[back, 0], chunks[back, 1])

    def fetch(self, located: I64, held: HeldRanges | None) -> pa.Array:
        """The stored values, in the order of `located`."""
        if not len(located):
            return pa.array([], self._column.arrow_type)
        groups = self._groups.find(located)
        by_group = np.argsort(groups, kind="stable")
        chunks = []
        for group in np.unique(groups).tolist():
            rows = located[by_group][groups[by_group] == group] - self._groups.first[group]
            chunks.append(self._row_group(group, held).take(pa.array(rows)))
        back = np.empty(len(located), np.int64)
        back[by_group] = np.arange(len(located))
        return pa.concat_arrays(chunks).take(pa.array(back))

    def steps(self, fetched: pa.Array, batch: dict[str, npt.NDArray[Any]], finish: Finish, buffers: Buffers) -> list[Step]:  # noqa: ARG002 - the protocol's
        """One step: what `decode_stored` makes of the values."""
        batch[self._column.name] = np.empty(0)
        if self._field is not None and is_masked(self._field):
            batch[mask_name(self._field.name)] = np.empty(0)
        return [functools.partial(self._make, fetched, batch, finish.normalise)]

    def _make(self, fetched: pa.Array, batch: dict[str, npt.NDArray[Any]], normalise: Normalise | None) -> None:
        if self._field is None:
            batch[self._column.name] = to_numpy(fetched)
            return
        batch.update(decode_stored(self._column, self._field, fetched))
        if normalise is not None:
            batch[self._column.name] = normalise(batch[self._column.name])

    def _row_group(self, group: int, held: HeldRanges | None) -> pa.Array:
        part, number = int(self._groups.part[group]), int(self._groups.number[group])
        counts, missed = self._cache.row_groups, False

        def read() -> pa.Array:
            nonlocal missed
            missed = True
            return self._read(part, number, held)

        values = self._cache.get((part, number, self._column.name), read, lambda array: array.nbytes)
        counts.hits, counts.misses = counts.hits + (not missed), counts.misses + missed
        return values

    def _file(self, part: int) -> pq.ParquetFile:
        return self._cache.get(part, lambda: self._files.parquet(part), _footer_bytes)

    def _chunk(self, group: int) -> tuple[int, int]:
        """First and past-the-end byte of a row group's column chunk."""
        metadata = self._file(int(self._groups.part[group])).metadata
        names = metadata.schema.names
        if self._column.name not in names:
            return 0, 0
        chunk = metadata.row_group(int(self._groups.number[group])).column(names.index(self._column.name))
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        return first, first + chunk.total_compressed_size

    def _read(self, part: int, number: int, held: HeldRanges | None) -> pa.Array:
        file = self._files.parquet(part, self._file(part).metadata, held)  # not thread-safe: one of our own for each reading
        where = self._files.path(self._files.parts.name[part])
        try:
            table = file.read_row_group(number, columns=[self._column.name])
            if self._column.name == PAD and not table.num_columns:
                return pa.array(np.zeros(file.metadata.row_group(number).num_rows, bool))
            return table[self._column.name].cast(self._column.arrow_type).combine_chunks()
        except StorageError:
            raise
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DecodeError(
                f"{where}: row group {number} of {self._column.name!r} can't be read ({error}); copy the file again"
            ) from error


def _footer_bytes(file: pq.ParquetFile) -> int:
    return int(file.metadata.serialized_size)


def decode_stored(column: Column, field: Field, stored: pa.Array) -> dict[str, npt.NDArray[Any]]:
    """The typed array of stored values, and for a nullable number or array of one shape a bool array ``<name>_mask``: True
    where missing.
    """
    if field.shape and column.stride:  # the whole column is cells of one width
        data = fixed_bytes(stored)[:, len(column.header) :]
        return {field.name: Values(column, field)(data.copy())}
    return to_arrays(field, stored)
