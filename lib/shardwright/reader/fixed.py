"""Addressable fields of one width: the bytes of a value lie at a place that the index gives."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.codecs import decode_block
from shardwright.format.layout import Column
from shardwright.reader.ahead import Units
from shardwright.reader.buffers import Buffers
from shardwright.reader.catalog import Extents, RowGroups
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import Finish
from shardwright.reader.grouped import ByRowGroup, Taken, take_rows
from shardwright.reader.threads import Step
from shardwright.schema import Field
from shardwright.storage.readahead import HeldRanges, Spans
from shardwright.transforms import Normalise

I64 = npt.NDArray[np.int64]

_LOWEST = 4096
_ADDRESSES = 2**48 - _LOWEST
"""User space on 64-bit Linux and macOS; on x86 half of it."""
_WIDE_BYTES = 2**14
"""From here on copying value by value costs no more, and NumPy can't describe the view: its bytes would pass 2^63."""
_TOUCH_BYTES = 512
_SMALL_BYTES = 512
"""Up to here a request for a value costs many times what its bytes do."""
_UNMAPPED = np.int64(-(2**63))
_MANY_COLUMNS = 4
_MANY_SAMPLES = 256
"""Of so many columns, and so many samples in a row group, sorting samples by row group and a call for each pay."""
_CACHED_BYTES = 2**18
"""So much of what is made of values is made at a time: it stays in a core's cache between one pass and the next."""


class Values:
    """Turns bytes into the values of a fixed column: of the field's dtype, shape (n, *field.shape).

    Without a field (the sample key): uint8 of shape (n, 16). `stored` is the dtype of numbers in the bytes, where these are no
    page of the column.
    """

    def __init__(self, column: Column, field: Field | None, *, stored: npt.DTypeLike | None = None) -> None:
        self.name = column.name
        self._dtype = np.dtype(np.uint8) if field is None else field.numpy_dtype
        self._stored = self._dtype if column.physical_dtype is None else np.dtype(stored or column.physical_dtype)
        width = column.stride - len(column.header)
        self._shape = (width,) if field is None else tuple(size or 0 for size in field.shape)
        encoded = field is not None and field.codec is not None and field.codec.name not in ("npy", "raw")
        self._decode = functools.partial(decode_block, field) if field is not None and encoded else None
        self._width = width

    @property
    def plain(self) -> bool:
        """Whether they are stored as they are."""
        return self._decode is None and self._stored == self._dtype

    def __call__(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values whose bytes are `data`, contiguous; no copy where they are stored as they are."""
        if self._decode is not None:
            return self._decode(data.view(np.uint8).reshape(len(data), self._width))
        values = data.view(self._stored).reshape(len(data), *self._shape)
        return values if self._stored == self._dtype else values.astype(self._dtype)

    def steps(
        self, fetched: npt.NDArray[Any], batch: dict[str, npt.NDArray[Any]], finish: Finish, buffers: Buffers
    ) -> list[Step]:
        """What puts the values, normalised or not, into `batch`; a few rows at a time, so that they stay in the cache."""
        normalise = finish.normalise
        if normalise is None and self.plain:
            batch[self.name] = self(fetched)
            return []
        dtype = self._dtype.newbyteorder("=") if normalise is None else normalise.dtype
        batch[self.name] = out = buffers.empty(self.name, (len(fetched), *self._shape), dtype)
        rows = max(1, _CACHED_BYTES * len(out) // max(out.nbytes, 1))
        return [
            functools.partial(self._fill, fetched, out, slice(row, row + rows), normalise) for row in range(0, len(out), rows)
        ]

    def _fill(self, data: npt.NDArray[Any], out: npt.NDArray[Any], rows: slice, normalise: Normalise | None) -> None:
        if normalise is None:
            out[rows] = self(data[rows])
        else:
            normalise.into(self(data[rows]), out[rows])


class Places:
    """Where the values of a fixed column lie in the memory maps of all parts: each has an *address*.

    Nothing but the addressed bytes is touched, and these lie in a map: `Catalog` checks every extent against the size of its
    part, `VersionFiles` the size of the part, `Dataset` the indexes.
    """

    def __init__(self, column: Column, extents: Extents, files: VersionFiles) -> None:
        self.width = column.stride - len(column.header)
        self._column, self._extents, self._files = column, extents, files
        self._bases = np.full(len(extents.first), _UNMAPPED)

    def addresses(self, indexes: I64, row_groups: I64) -> I64:
        """That of each value, less _LOWEST."""
        return self._starts(self._extents.find(indexes, row_groups)) + indexes * self._column.stride

    def arrays(self, row_groups: I64) -> list[pa.Array] | None:
        """All values of each of these row groups, not copied, and valid as long as the files; None where more lies between."""
        known, width = self._extents, self.width
        if not known.one_per_row_group or known.stride != width:
            return None
        starts = self._starts(row_groups) + known.first[row_groups] * width + _LOWEST
        return [
            pa.Array.from_buffers(pa.binary(width), count, [None, pa.foreign_buffer(start, count * width)])
            for start, count in zip(starts.tolist(), known.count[row_groups].tolist(), strict=True)
        ]

    def _starts(self, extents: I64) -> I64:
        """Where sample 0 would lie if each of these extents reached back to it."""
        starts = self._bases[extents]
        if starts.min(initial=0) == _UNMAPPED:
            known, new = self._extents, np.unique(extents)
            begins = self._files.addresses(known.part[new]) + known.offset[new] + len(self._column.header)
            self._bases[new] = begins - known.first[new] * known.stride - _LOWEST
            starts = self._bases[extents]
        return starts


class LocalNumbers:
    """Small values of local parts, taken for many batches at a time when they are located."""

    def __init__(self, columns: Sequence[tuple[Values, Places]], row_groups: RowGroups) -> None:
        self.values = tuple(values for values, _ in columns)
        self._places, self._row_groups = tuple(places for _, places in columns), row_groups
        self.sample_bytes = sum(places.width for places in self._places)
        """How much is taken for a sample."""

    @property
    def plain(self) -> bool:
        """Whether all are stored as they are."""
        return all(values.plain for values in self.values)

    def locate(self, indexes: I64, row_groups: I64) -> Taken:
        """The values' bytes, of shape (n,) as one void each, or (n, width)."""
        grouped = None
        if len(indexes) >= _MANY_SAMPLES and len(self._places) >= _MANY_COLUMNS:
            grouped = ByRowGroup(indexes, row_groups, self._row_groups)
            if len(indexes) < _MANY_SAMPLES * len(grouped.groups):
                grouped = None
        taken = []
        for places in self._places:
            groups = None if grouped is None else places.arrays(grouped.groups)
            if grouped is None or groups is None:
                taken.append(_gather(places.addresses(indexes, row_groups), places.width))
            else:
                taken.append(_bytes(grouped.in_order(list(map(take_rows, groups, grouped.rows)))))
        return Taken(taken)

    def fetch(self, located: Taken, held: HeldRanges | None) -> list[Any]:  # noqa: ARG002 - the protocol's
        """What was taken."""
        return located.values


class LocalFixedColumn:
    """Values of local parts, gathered from the memory maps of all parts in one NumPy call.

    `view[addresses]` over a view of the whole address space takes values from any number of maps at once; a gather for each
    part, put together afterwards, copies everything twice and reached three quarters of that speed with 4 parts.
    """

    sample_bytes = 0

    def __init__(self, values: Values, places: Places) -> None:
        self.values = (values,)
        self._places = places

    @property
    def plain(self) -> bool:
        """Whether they are stored as they are."""
        return self.values[0].plain

    @property
    def value_bytes(self) -> int:
        """Of one."""
        return self._places.width

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """The address of each value."""
        return self._places.addresses(indexes, row_groups)

    def fetch(self, located: I64, held: HeldRanges | None) -> list[Any]:  # noqa: ARG002 - the protocol's
        """The values' bytes, of shape (n,) as one void each, or (n, width)."""
        return [_gather(located, self._places.width)]


class RemoteFixedColumn:
    """Values of remote parts, by ranges."""

    sample_bytes = 0

    def __init__(self, values: Values, column: Column, extents: Extents) -> None:
        self.values = (values,)
        self._column, self._extents = column, extents

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """The index and the extent of each value: shape (n, 2)."""
        return np.stack([indexes, self._extents.find(indexes, row_groups)], axis=1)

    def needs(self, located: I64, units: Units) -> Spans:
        """Where the unit of each value lies; many small values, a page of them, cost as much to fetch as one."""
        indexes, extents = located[:, 0], located[:, 1]
        first, stop = units.of(indexes)
        begin = self._extents.first[extents]
        page = units.page_bytes // self._column.stride if self._column.stride <= _SMALL_BYTES else 1
        if page > 1:
            page_first = begin + (indexes - begin) // page * page
            wider = page > stop - first
            first, stop = np.where(wider, page_first, first), np.where(wider, page_first + page, stop)
        return self._spans(extents, np.maximum(first, begin), np.minimum(stop, begin + self._extents.count[extents]))

    def fetch(self, located: I64, held: HeldRanges | None) -> list[Any]:
        """The values' bytes, of shape (n,) as one void each, or (n, width)."""
        assert held is not None
        indexes, extents = located[:, 0], located[:, 1]
        begins = held.addresses(self._spans(extents, indexes, indexes + 1)) - _LOWEST
        return [_gather(begins + len(self._column.header), self._column.stride - len(self._column.header))]

    def _spans(self, extents: I64, first: I64, stop: I64) -> Spans:
        known, stride = self._extents, self._column.stride
        base = known.offset[extents] - known.first[extents] * stride
        return Spans(known.part[extents], base + first * stride, base + stop * stride)


def _bytes(values: pa.Array) -> npt.NDArray[Any]:
    """Values of a fixed width, in memory of their own, of shape (n,) as one void each."""
    data = np.frombuffer(values.buffers()[1], f"V{values.type.byte_width}")
    return data[values.offset : values.offset + len(values)]


def _gather(places: I64, width: int) -> npt.NDArray[Any]:
    """The `width` bytes at each of the addresses _LOWEST + `places`, of shape (n,) as one void each, or (n, width)."""
    if width < _WIDE_BYTES:
        if width > _TOUCH_BYTES:
            _memory(1)[places]  # the first bytes alone: their cache and page-table misses overlap, 5 % faster in all
        values: npt.NDArray[Any] = _memory(width)[places]
        return values
    out = np.empty((len(places), width), np.uint8)
    memory = _memory(1)
    for row, place in enumerate(places.tolist()):
        out[row] = memory[place : place + width]
    return out


@functools.cache
def _memory(width: int) -> npt.NDArray[Any]:
    """A view of the address space whose item i is the `width` bytes from address _LOWEST + i: overlapping, read-only."""

    class _Space:
        __array_interface__ = {
            "version": 3, "data": (_LOWEST, True), "shape": (_ADDRESSES - width,), "strides": (1,),
            "typestr": f"|V{width}" if width > 1 else "|u1",
        }  # fmt: skip

    return np.asarray(_Space())
