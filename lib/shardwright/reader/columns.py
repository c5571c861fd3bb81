"""The columns of a dataset, opened: many samples' values by index."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from shardwright.errors import CorruptError, SchemaError
from shardwright.format import layout
from shardwright.format.batch import is_masked, mask_name
from shardwright.format.layout import Column
from shardwright.reader.ahead import VALUES, Units
from shardwright.reader.buffers import NEW, Buffers
from shardwright.reader.cache import CACHE_BYTES, CacheCounts, RecentlyUsed
from shardwright.reader.catalog import Catalog, Extents, RowGroups
from shardwright.reader.compressed import CompressedColumns
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import AS_STORED, Finish
from shardwright.reader.fixed import LocalFixedColumn, LocalNumbers, Places, RemoteFixedColumn, Values
from shardwright.reader.ranges import RangesColumn
from shardwright.reader.threads import Step
from shardwright.schema import Field, Schema
from shardwright.storage.readahead import HeldRanges, Spans

I64 = npt.NDArray[np.int64]
Batch = dict[str, npt.NDArray[Any]]
HIDDEN = (layout.KEY, layout.PAD)
"""Columns that come only when asked for by name."""
_NUMBER_BYTES = 16


class ColumnValues(Protocol):
    """Makes the arrays of one column."""

    name: str

    def steps(self, fetched: Any, batch: Batch, finish: Finish, buffers: Buffers) -> list[Step]:
        """What makes the arrays that `batch` gets from this column, of its stored values.

        What `finish` says is done on the way; `buffers` have the memory. Steps raise DecodeError for a value that is not what
        the schema declares.
        """


class Located(Protocol):
    """What is known of n samples."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Of some of them."""


class OpenColumns(Protocol):
    """A column, or several that are read together.

    Its steps are apart so that each is done for as many samples at once as pays, and timed by itself.
    """

    @property
    def values(self) -> Sequence[ColumnValues]:
        """What makes the arrays of each."""

    @property
    def sample_bytes(self) -> int:
        """How many are read for each sample that is located."""

    def locate(self, indexes: I64, row_groups: I64) -> Located:
        """What `fetch` needs to know of each sample, given its index and row group."""

    def fetch(self, located: Any, held: HeldRanges | None) -> list[Any]:
        """The stored values of each column; of remote parts from the ranges that are `held`, or brought there."""


class RemoteColumns(OpenColumns, Protocol):
    """Columns of remote parts."""

    def needs(self, located: Any, units: Units) -> Spans:
        """The bytes to fetch for each value, which may be for others too."""


class Columns:
    """Several columns, read together."""

    def __init__(
        self, schema: Schema, names: Sequence[str], opened: Sequence[OpenColumns], row_groups: RowGroups, files: VersionFiles,
        counts: CacheCounts,
    ) -> None:  # fmt: skip
        self._opened = tuple(opened)
        self._values = [values for each in opened for values in each.values]
        self._row_groups = row_groups
        arrays = ((name, mask_name(name)) if name not in HIDDEN and is_masked(schema[name]) else (name,) for name in names)
        self._empty = dict.fromkeys(itertools.chain.from_iterable(arrays), np.empty(0))
        self.files = files
        self.cache_counts = counts
        """Of row groups of compressed columns."""
        self.sample_bytes = sum(each.sample_bytes for each in opened)
        """How many are read for each sample that is located."""

    @property
    def gathered_bytes(self) -> int | None:
        """Of a sample, where values are stored as they are, and all `fetch` does is to gather those of some size."""
        if not all(isinstance(each, LocalNumbers | LocalFixedColumn) and each.plain for each in self._opened):
            return None
        return self.sample_bytes + sum(each.value_bytes for each in self._opened if isinstance(each, LocalFixedColumn))

    def locate(self, indexes: I64) -> list[Located]:
        """Where the samples `indexes` (int64, shape (n,)) lie, to be sliced; local values of few bytes are read."""
        row_groups = self._row_groups.find(indexes)
        return [each.locate(indexes, row_groups) for each in self._opened]

    def needs(self, located: Sequence[Located], units: Units, limit: int) -> Spans:
        """The bytes of remote parts that `fetch` takes these values from.

        Where they are more than `limit`, those of compressed columns are left out: these can be read one row group at a time.
        """
        opened = [cast(RemoteColumns, each) for each in self._opened]
        spans = [each.needs(places, units) for each, places in zip(opened, located, strict=True)]
        if sum(span.bytes for span in spans) > limit:
            spans = [found for found, each in zip(spans, opened, strict=True) if not isinstance(each, CompressedColumns)]
        return Spans.join(spans)

    def fetch(self, located: Sequence[Located], held: HeldRanges | None = None) -> list[Any]:
        """The stored values, one entry a column; of remote parts from what is `held`, or for this once."""
        if held is not None or self.files.local:
            return [values for each, places in zip(self._opened, located, strict=True) for values in each.fetch(places, held)]
        with self.files.hold(CACHE_BYTES) as held:
            needed = self.needs(located, VALUES, CACHE_BYTES)
            held.ask(needed, np.zeros(len(needed.files), np.int64))
            return self.fetch(located, held)

    def steps(self, fetched: Sequence[Any], finish: Mapping[str, Finish], buffers: Buffers = NEW) -> tuple[Batch, list[Step]]:
        """The batch, with all its names, and what is to be done until its arrays are made."""
        batch: Batch = dict(self._empty)
        steps = [
            step
            for column, values in zip(self._values, fetched, strict=True)
            for step in column.steps(values, batch, finish.get(column.name, AS_STORED), buffers)
        ]
        return batch, steps

    def decode(self, fetched: Sequence[Any], finish: Mapping[str, Finish]) -> Batch:
        """The batch. Raises DecodeError for a value that is not what the schema declares."""
        batch, steps = self.steps(fetched, finish)
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
    opened: list[OpenColumns] = []
    numbers: list[tuple[Values, Places]] = []
    compressed: dict[str, tuple[Column, Field | None]] = {}
    for name in names:
        field = None if name in HIDDEN else schema[name]
        column, extents = _column(catalog, name, field, files)
        if extents is None or column.kind == "compressed":
            compressed[name] = column, field
        elif column.kind == "ranges":
            assert field is not None
            opened.append(RangesColumn(field, catalog, files, cache))
        elif not files.local:
            opened.append(RemoteFixedColumn(Values(column, field), column, extents))
        elif column.stride <= _NUMBER_BYTES:
            numbers.append((Values(column, field), Places(column, extents, files)))
        else:
            opened.append(LocalFixedColumn(Values(column, field), Places(column, extents, files)))
    if numbers:
        opened.append(LocalNumbers(numbers, catalog.row_groups))
    if compressed:
        opened.append(CompressedColumns(compressed, catalog, files, cache))
    return Columns(schema, names, opened, catalog.row_groups, files, cache.row_groups)


def _column(catalog: Catalog, name: str, field: Field | None, files: VersionFiles) -> tuple[Column, Extents | None]:
    """How a column is stored, and the stretches that hold it, if it is not compressed."""
    extents = catalog.extents.get(name)
    if field is None:
        column = layout.KEY_COLUMN if name == layout.KEY else layout.PAD_COLUMN
    else:
        column = layout.column(field, compressed=extents is None)
    if extents is not None and column.kind == "fixed" and column.stride != extents.stride:
        raise CorruptError(
            f"{files.path(layout.INDEX)}: values of {name!r} lie {extents.stride} bytes apart, the schema says {column.stride}"
        )
    return column, extents


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
