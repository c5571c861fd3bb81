"""Compressed columns: read by row group, the latest ones kept decompressed in a cache bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import DecodeError, StorageError
from shardwright.format.batch import to_arrays, to_numpy
from shardwright.format.layout import PAD, Column
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.reader.catalog import Catalog
from shardwright.reader.files import VersionFiles
from shardwright.reader.fixed import Values
from shardwright.schema import Field

I64 = npt.NDArray[np.int64]
CACHE_BYTES = 256 * 2**20


class RecentlyUsed:
    """A cache of at most `limit` bytes that drops the least recently used first; the newest entry always stays."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._entries: OrderedDict[object, tuple[Any, int]] = OrderedDict()

    def get(self, key: object, make: Callable[[], Any], nbytes: Callable[[Any], int]) -> Any:
        """The value of `key`, made when it is not there; `nbytes` tells its size."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][0]
        value = make()
        self._entries[key] = value, nbytes(value)
        self._bytes += nbytes(value)
        while self._bytes > self._limit and len(self._entries) > 1:
            _, (_, size) = self._entries.popitem(last=False)
            self._bytes -= size
        return value


class CompressedColumn:
    """The values of one compressed column; `field` is None for the pad flag."""

    def __init__(self, column: Column, field: Field | None, catalog: Catalog, files: VersionFiles, cache: RecentlyUsed) -> None:
        self._column, self._field = column, field
        self._groups, self._files, self._cache = catalog.row_groups, files, cache

    def locate(self, indexes: I64, row_groups: I64) -> I64:  # noqa: ARG002 - the protocol's
        """The index itself."""
        return indexes

    def fetch(self, located: I64) -> pa.Array:
        """The stored values, in the order of `located`."""
        if not len(located):
            return pa.array([], self._column.arrow_type)
        groups = self._groups.find(located)
        by_group = np.argsort(groups, kind="stable")
        chunks = []
        for group in np.unique(groups).tolist():
            rows = located[by_group][groups[by_group] == group] - self._groups.first[group]
            chunks.append(self._row_group(group).take(pa.array(rows)))
        back = np.empty(len(located), np.int64)
        back[by_group] = np.arange(len(located))
        return pa.concat_arrays(chunks).take(pa.array(back))

    def decode(self, fetched: pa.Array) -> dict[str, npt.NDArray[Any]]:
        """What `decode_stored` makes of them."""
        return (
            {self._column.name: to_numpy(fetched)} if self._field is None else decode_stored(self._column, self._field, fetched)
        )

    def _row_group(self, group: int) -> pa.Array:
        part, number = int(self._groups.part[group]), int(self._groups.number[group])
        return self._cache.get((part, number, self._column.name), lambda: self._read(part, number), lambda a: a.nbytes)

    def _read(self, part: int, number: int) -> pa.Array:
        file: pq.ParquetFile = self._cache.get(part, lambda: self._files.parquet(part), lambda f: f.metadata.serialized_size)
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


def decode_stored(column: Column, field: Field, stored: pa.Array) -> dict[str, npt.NDArray[Any]]:
    """The typed array of stored values, and for a nullable number or array of one shape a bool array ``<name>_mask``: True
    where missing.
    """
    if field.shape and column.stride:  # the whole column is cells of one width
        data = fixed_bytes(stored)[:, len(column.header) :]
        return {field.name: Values(column, field)(data.copy())}
    return to_arrays(field, stored)
