"""The columns of a dataset, opened: many samples' values by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from shardwright.errors import CorruptError, SchemaError
from shardwright.format import layout
from shardwright.format.batch import mask_name
from shardwright.reader.ahead import VALUES, Units
from shardwright.reader.cache import CACHE_BYTES, RecentlyUsed
from shardwright.reader.catalog import Catalog, RowGroups
from shardwright.reader.compressed import CompressedColumn
from shardwright.reader.files import VersionFiles
from shardwright.reader.fixed import LocalFixedColumn, RemoteFixedColumn
from shardwright.reader.ranges import RangesColumn
from shardwright.schema import Schema
from shardwright.storage.readahead import HeldRanges, Spans

I64 = npt.NDArray[np.int64]
Batch = dict[str, npt.NDArray[Any]]
HIDDEN = (layout.KEY, layout.PAD)
"""Columns that come only when asked for by name."""


class OpenColumn(Protocol):
    """One column. Its three steps are apart so that each is done for as many samples at once as pays, and timed by itself."""

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """What `fetch` needs to know of each sample, given its index and row group: an array of length n."""

    def fetch(self, located: I64, held: HeldRanges | None) -> Any:
        """The stored values; of remote parts from the ranges that are `held`, or brought there."""

    def decode(self, fetched: Any) -> Batch:
        """The arrays that a batch gets from this column, by name."""


class RemoteColumn(OpenColumn, Protocol):
    """A column of remote parts."""

    def needs(self, located: I64, units: Units) -> Spans:
        """The bytes to fetch for each value, which may be for others too."""


class Columns:
    """Several columns, read together."""

    def __init__(self, columns: Sequence[OpenColumn], row_groups: RowGroups, files: VersionFiles) -> None:
        self._columns = tuple(columns)
        self._row_groups = row_groups
        self.files = files

    def locate(self, indexes: I64) -> list[I64]:
        """Of each column, where the samples `indexes` (int64, shape (n,)) lie: arrays of length n, to be sliced."""
        row_groups = self._row_groups.find(indexes)
        return [column.locate(indexes, row_groups) for column in self._columns]

    def needs(self, located: Sequence[I64], units: Units, limit: int) -> Spans:
        """The bytes of remote parts that `fetch` takes these values from.

        Where they are more than `limit`, those of compressed columns are left out: these can be read one row group at a time.
        """
        columns = [cast(RemoteColumn, column) for column in self._columns]
        spans = [column.needs(places, units) for column, places in zip(columns, located, strict=True)]
        if sum(span.bytes for span in spans) > limit:
            spans = [found for found, column in zip(spans, columns, strict=True) if not isinstance(column, CompressedColumn)]
        return Spans.join(spans)

    def fetch(self, located: Sequence[I64], held: HeldRanges | None = None) -> list[Any]:
        """The stored values, one entry per column; of remote parts from what is `held`, or for this once."""
        if held is not None or self.files.local:
            return [column.fetch(places, held) for column, places in zip(self._columns, located, strict=True)]
        with self.files.hold(CACHE_BYTES) as held:
            needed = self.needs(located, VALUES, CACHE_BYTES)
            held.ask(needed, np.zeros(len(needed.files), np.int64))
            return self.fetch(located, held)

    def decode(self, fetched: Sequence[Any]) -> Batch:
        """The batch. Raises DecodeError for a value that is not what the schema declares."""
        out: Batch = {}
        for column, values in zip(self._columns, fetched, strict=True):
            out.update(column.decode(values))
        return out


def open_columns(
    catalog: Catalog, schema: Schema, names: Sequence[str], files: VersionFiles, cache_bytes: int = CACHE_BYTES
) -> Columns:
    """The columns `names`, checked by `check_names`; at most `cache_bytes` of what was decompressed are kept.

    Raises CorruptError when the index does not fit the schema.
    """
    cache = RecentlyUsed(cache_bytes)
    return Columns([_open_column(catalog, schema, name, files, cache) for name in names], catalog.row_groups, files)


def _open_column(catalog: Catalog, schema: Schema, name: str, files: VersionFiles, cache: RecentlyUsed) -> OpenColumn:
    field = None if name in HIDDEN else schema[name]
    extents = catalog.extents.get(name)
    if field is None:
        column = layout.KEY_COLUMN if name == layout.KEY else layout.PAD_COLUMN
    else:
        column = layout.column(field, compressed=extents is None)
    if extents is None or column.kind == "compressed":
        return CompressedColumn(column, field, catalog, files, cache)
    if column.kind == "ranges":
        assert field is not None
        return RangesColumn(field, catalog, files, cache)
    if column.stride != extents.stride:
        raise CorruptError(
            f"{files.path(layout.INDEX)}: values of {name!r} lie {extents.stride} bytes apart, the schema says {column.stride}"
        )
    make = LocalFixedColumn if files.local else RemoteFixedColumn
    return make(column, field, extents, files)


def check_names(schema: Schema, columns: Sequence[str] | None, *, padded: bool) -> tuple[str, ...]:
    """The columns to read: all fields for None. Raises SchemaError for names that are unknown, twice, or would collide."""
    if isinstance(columns, str):
        raise SchemaError(f"columns: expected a sequence of names such as [{columns!r}], found {columns!r}")
    names = schema.names if columns is None else tuple(columns)
    for name in names:
        if name == layout.PAD and not padded:
            raise SchemaError(f"no column {layout.PAD!r}: only a version with the remainder policy 'pad' has it")
        if name not in HIDDEN:
            schema[name]  # raises, with the nearest name
    if not names or len(set(names)) != len(names):
        raise SchemaError(f"columns: expected one or more different names, found {list(names)}")
    for name in names:
        if name not in HIDDEN and schema[name].nullable and mask_name(name) in names:
            raise SchemaError(
                f"field {name!r} can be null, and its mask would be called {mask_name(name)!r}, which is a field too; read "
                "them apart with columns="
            )
    return names
