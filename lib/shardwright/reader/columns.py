"""The columns of a dataset, opened: many samples' values by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from shardwright.errors import CorruptError, SchemaError
from shardwright.format import layout
from shardwright.format.batch import mask_name
from shardwright.reader.ahead import VALUES, Units
from shardwright.reader.buffers import NEW, Buffers
from shardwright.reader.cache import CACHE_BYTES, CacheCounts, RecentlyUsed
from shardwright.reader.catalog import Catalog, RowGroups
from shardwright.reader.compressed import CompressedColumn
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import AS_STORED, Finish
from shardwright.reader.fixed import LocalFixedColumn, RemoteFixedColumn
from shardwright.reader.ranges import RangesColumn
from shardwright.reader.threads import Step
from shardwright.schema import Schema
from shardwright.storage.readahead import HeldRanges, Spans

I64 = npt.NDArray[np.int64]
Batch = dict[str, npt.NDArray[Any]]
HIDDEN = (layout.KEY, layout.PAD)
"""Columns that come only when asked for by name."""
_NUMBER_BYTES = 16
_AT_ONCE_BYTES = 64
"""Numbers of so many bytes a sample are fetched for many batches at a time: a loader's 65,536 samples are 4 MiB."""


class OpenColumn(Protocol):
    """One column. Its three steps are apart so that each is done for as many samples at once as pays, and timed by itself."""

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """What `fetch` needs to know of each sample, given its index and row group: an array of length n."""

    def fetch(self, located: I64, held: HeldRanges | None) -> Any:
        """The stored values; of remote parts from the ranges that are `held`, or brought there."""

    def steps(self, fetched: Any, batch: Batch, finish: Finish, buffers: Buffers) -> list[Step]:
        """What makes the arrays that `batch` gets from this column; their names are there at once, in their order.

        What `finish` says is done on the way; `buffers` have the memory. Steps raise DecodeError for a value that is not what
        the schema declares.
        """


class RemoteColumn(OpenColumn, Protocol):
    """A column of remote parts."""

    def needs(self, located: I64, units: Units) -> Spans:
        """The bytes to fetch for each value, which may be for others too."""


class Columns:
    """Several columns, read together."""

    def __init__(
        self, columns: Mapping[str, OpenColumn], row_groups: RowGroups, files: VersionFiles, counts: CacheCounts
    ) -> None:
        self._names, self._columns = tuple(columns), tuple(columns.values())
        self._row_groups = row_groups
        self.files = files
        self.cache_counts = counts
        """Of row groups of compressed columns."""

    @property
    def gathered(self) -> bool:
        """Whether all values are fetched by one gather a column, and need no decoding."""
        return all(isinstance(column, LocalFixedColumn) and column.plain for column in self._columns)

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

    def steps(self, fetched: Sequence[Any], finish: Mapping[str, Finish], buffers: Buffers = NEW) -> tuple[Batch, list[Step]]:
        """The batch, and what is to be done until its arrays are made."""
        batch: Batch = {}
        steps = [
            step
            for name, column, values in zip(self._names, self._columns, fetched, strict=True)
            for step in column.steps(values, batch, finish.get(name, AS_STORED), buffers)
        ]
        return batch, steps

    def decode(self, fetched: Sequence[Any], finish: Mapping[str, Finish] | None = None) -> Batch:
        """The batch. Raises DecodeError for a value that is not what the schema declares."""
        batch, steps = self.steps(fetched, finish or {})
        for step in steps:
            step()
        return batch


def open_columns(
    catalog: Catalog, schema: Schema, names: Sequence[str], files: VersionFiles, cache_bytes: int = CACHE_BYTES
) -> Columns:
    """The columns `names`, checked by `check_names`; at most `cache_bytes` of what was decompressed are kept.

    Raises CorruptError when the index does not fit the schema.
    """
    cache = RecentlyUsed(cache_bytes)
    strides = {name: catalog.extents[name].stride for name in names if name in catalog.extents}
    numbers = {name: stride for name, stride in strides.items() if 0 < stride <= _NUMBER_BYTES}
    at_once = set(numbers) if sum(numbers.values()) <= _AT_ONCE_BYTES else set()
    columns = {name: _open_column(catalog, schema, name, files, cache, at_once=name in at_once) for name in names}
    return Columns(columns, catalog.row_groups, files, cache.row_groups)


def _open_column(
    catalog: Catalog, schema: Schema, name: str, files: VersionFiles, cache: RecentlyUsed, *, at_once: bool
) -> OpenColumn:
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
    if files.local:
        return LocalFixedColumn(column, field, extents, files, at_once=at_once)
    return RemoteFixedColumn(column, field, extents, files)


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
