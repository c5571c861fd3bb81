"""Addressable fields of varying length (encoded media): the byte range of every value stands in a side file of its part."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs import decode_value, decode_value_into, npy_header
from shardwright.codecs.view import decode_view_into
from shardwright.errors import CorruptError
from shardwright.reader.ahead import Units
from shardwright.reader.buffers import Buffers
from shardwright.reader.cache import RecentlyUsed
from shardwright.reader.catalog import Catalog
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import Finish
from shardwright.reader.threads import Step
from shardwright.schema import Field
from shardwright.storage.readahead import HeldRanges, Spans

I64 = npt.NDArray[np.int64]
_STEPS = 16
"""A batch is decoded in about so many steps, which threads share."""


class RangesColumn:
    """The places of the values of `field`."""

    sample_bytes = 0

    def __init__(self, field: Field, catalog: Catalog, files: VersionFiles, cache: RecentlyUsed) -> None:
        self.values = (RangesValues(field),)
        self._name, self._parts, self._groups = field.name, catalog.parts, catalog.row_groups
        self._files, self._cache = files, cache

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """The index and the row group of each value: shape (n, 2)."""
        return np.stack([indexes, row_groups], axis=1)

    def needs(self, located: I64, units: Units) -> Spans:
        """Where the unit of each value lies: in a row group all values of the field lie together, in their order."""
        indexes, groups = located[:, 0], located[:, 1]
        first, stop = units.of(indexes)
        begin = self._groups.first[groups]
        first, stop = np.maximum(first, begin), np.minimum(stop, begin + self._groups.samples[groups])
        parts = self._groups.part[groups]
        starts, _ = self._ranges_of(parts, first)
        _, stops = self._ranges_of(parts, stop - 1)
        return Spans(parts, starts, np.maximum(starts, stops))

    def fetch(self, located: I64, held: HeldRanges | None) -> list[Any]:
        """The stored bytes of each value; of remote ones a copy, since a view would keep all in memory that came with it."""
        indexes, parts = located[:, 0], self._groups.part[located[:, 1]]
        starts, stops = self._ranges_of(parts, indexes)
        if held is not None:
            return [[memoryview(bytes(view)) for view in held.views(Spans(parts, starts, stops))]]
        out = [memoryview(b"")] * len(located)
        for part, rows in by_part(parts):
            whole = memoryview(self._files.map(part)).cast("B")
            for row, start, stop in zip(rows.tolist(), starts[rows].tolist(), stops[rows].tolist(), strict=True):
                out[row] = whole[start:stop]
        return [out]

    def _ranges_of(self, parts: I64, indexes: I64) -> tuple[I64, I64]:
        """First and past-the-end byte of each value."""
        starts, stops = np.empty_like(indexes), np.empty_like(indexes)
        if not self._files.local:
            keys = [(part, self._name) for part in np.unique(parts).tolist()]
            self._cache.prepare(keys, lambda key: self._read_ranges(key[0]), self._memory)
        for part, rows in by_part(parts):
            known = self._cache.get((part, self._name), functools.partial(self._read_ranges, part), self._memory)
            starts[rows], stops[rows] = known[:, indexes[rows] - self._parts.first[part]]
        return starts, stops

    def _memory(self, ranges: I64) -> int:
        return 0 if self._files.local else ranges.nbytes  # a local side file is mapped

    def _read_ranges(self, part: int) -> I64:
        directory, _, file = self._parts.name[part].rpartition("/")
        name = f"{directory}/_{file.removesuffix('.parquet')}.{self._name}.npy"
        data = memoryview(self._files.side_file(name)).cast("B")  # Arrow's bytes are signed
        samples = int(self._parts.samples[part])
        header = npy_header("<i8", (2, samples))
        if data[: len(header)] != header or len(data) != len(header) + 16 * samples:
            raise CorruptError(
                f"{self._files.path(name)}: expected int64 (2, {samples}) as numpy.save writes it; copy it again"
            )
        ranges: I64 = np.frombuffer(data, "<i8", offset=len(header)).reshape(2, samples)
        if samples and (ranges.min() < 0 or ranges.max() > self._parts.bytes[part] or (ranges[1] < ranges[0]).any()):
            raise CorruptError(f"{self._files.path(name)}: byte ranges outside of the part; copy both files again")
        return ranges


class RangesValues:
    """Decodes the values of `field` one by one."""

    def __init__(self, field: Field) -> None:
        self.name, self._field = field.name, field

    def steps(
        self, fetched: list[memoryview], batch: dict[str, npt.NDArray[Any]], finish: Finish, buffers: Buffers
    ) -> list[Step]:
        """One array where all values have one shape in the batch, else an object array of arrays."""
        field, shape = self._field, finish.shape(self._field)
        if None in shape:
            out = np.empty(len(fetched), object)
        else:
            dtype = field.numpy_dtype if finish.normalise is None else finish.normalise.dtype
            out = buffers.empty(field.name, (len(fetched), *(size or 0 for size in shape)), dtype)
        batch[field.name] = out
        rows = max(1, len(out) // _STEPS)
        return [functools.partial(self._fill, fetched, out, range(n, min(n + rows, len(out))), finish)
                for n in range(0, len(out), rows)]  # fmt: skip

    def _fill(self, fetched: list[memoryview], out: npt.NDArray[Any], rows: range, finish: Finish) -> None:
        normalise, views = finish.normalise, finish.views
        if out.dtype == object:
            for row in rows:
                value = decode_value(self._field, fetched[row])
                out[row] = value if normalise is None else normalise(value)
            return
        decoded = None if normalise is None else np.empty((1, *out.shape[1:]), self._field.numpy_dtype)
        for row in rows:
            value = out[row : row + 1] if decoded is None else decoded
            if views is None:
                decode_value_into(self._field, fetched[row], value[0])
            else:
                decode_view_into(self._field, fetched[row], views.of(row), value[0])
            if normalise is not None:
                normalise.into(value, out[row : row + 1])


def by_part(parts: I64) -> Iterator[tuple[int, I64]]:
    """Each part that occurs, ascending, and the rows where it does."""
    for part in np.unique(parts).tolist():
        yield part, np.flatnonzero(parts == part)
