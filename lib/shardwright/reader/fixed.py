"""Addressable fields of one width: the bytes of a value lie at a place that the index gives."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs import decode_block
from shardwright.format.layout import Column
from shardwright.reader.ahead import Units
from shardwright.reader.buffers import Buffers
from shardwright.reader.catalog import Extents
from shardwright.reader.files import VersionFiles
from shardwright.reader.finishing import Finish
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
_CACHED_BYTES = 2**18
"""So much of what is made of values is made at a time: it stays in a core's cache between one pass and the next."""


class Values:
    """Turns bytes into the values of a fixed column: of the field's dtype, shape (n, *field.shape).

    Without a field (the sample key): uint8 of shape (n, 16).
    """

    def __init__(self, column: Column, field: Field | None) -> None:
        self._dtype = np.dtype(np.uint8) if field is None else field.numpy_dtype
        self._stored = self._dtype if column.physical_dtype is None else np.dtype(column.physical_dtype)
        self._name = column.name
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
            batch[self._name] = self(fetched)
            return []
        dtype = self._dtype.newbyteorder("=") if normalise is None else normalise.dtype
        batch[self._name] = out = buffers.empty(self._name, (len(fetched), *self._shape), dtype)
        rows = max(1, _CACHED_BYTES * len(out) // max(out.nbytes, 1))
        return [
            functools.partial(self._fill, fetched, out, slice(row, row + rows), normalise) for row in range(0, len(out), rows)
        ]

    def _fill(self, data: npt.NDArray[Any], out: npt.NDArray[Any], rows: slice, normalise: Normalise | None) -> None:
        if normalise is None:
            out[rows] = self(data[rows])
        else:
            normalise.into(self(data[rows]), out[rows])


class LocalFixedColumn(Values):
    """Values of local parts, gathered from the memory maps of all parts in one NumPy call.

    Where a value lies is its *address*. `view[addresses]` over a view of the whole address space takes values from any number
    of maps at once; a gather for each part, put together afterwards, copies everything twice and reached three quarters of that
    speed with 4 parts. Nothing but the addressed bytes is touched, and these lie in a map: `Catalog` checks every extent
    against the size of its part, `VersionFiles` the size of the part, `Dataset` the indexes.
    """

    def __init__(
        self, column: Column, field: Field | None, extents: Extents, files: VersionFiles, *, at_once: bool = False
    ) -> None:
        super().__init__(column, field)
        self._column, self._extents, self._files = column, extents, files
        self._bases = np.full(len(extents.first), _UNMAPPED)
        self._at_once = at_once

    def locate(self, indexes: I64, row_groups: I64) -> npt.NDArray[Any]:
        """The address of each value; `at_once` its bytes, so that a batch of many that are located together is a slice."""
        extents = self._extents.find(indexes, row_groups)
        bases = self._bases[extents]
        if bases.min(initial=0) == _UNMAPPED:
            self._map(np.unique(extents))
            bases = self._bases[extents]
        addresses: I64 = bases + indexes * self._column.stride
        return _gather(addresses, self._width) if self._at_once else addresses

    def fetch(self, located: npt.NDArray[Any], held: HeldRanges | None) -> npt.NDArray[Any]:  # noqa: ARG002 - the protocol's
        """The values' bytes, of shape (n,) as one void each, or (n, width)."""
        return located if self._at_once else _gather(located, self._width)

    def _map(self, extents: I64) -> None:
        """Find out where sample 0 would lie if each of these extents reached back to it."""
        known = self._extents
        starts = self._files.addresses(known.part[extents]) + known.offset[extents] + len(self._column.header)
        self._bases[extents] = starts - known.first[extents] * known.stride - _LOWEST


class RemoteFixedColumn(Values):
    """Values of remote parts, by ranges."""

    def __init__(self, column: Column, field: Field | None, extents: Extents, files: VersionFiles) -> None:
        super().__init__(column, field)
        self._column, self._extents, self._files = column, extents, files

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

    def fetch(self, located: I64, held: HeldRanges | None) -> npt.NDArray[Any]:
        """The values' bytes, of shape (n,) as one void each, or (n, width)."""
        assert held is not None
        indexes, extents = located[:, 0], located[:, 1]
        begins = held.addresses(self._spans(extents, indexes, indexes + 1)) - _LOWEST
        return _gather(begins + len(self._column.header), self._column.stride - len(self._column.header))

    def _spans(self, extents: I64, first: I64, stop: I64) -> Spans:
        known, stride = self._extents, self._column.stride
        base = known.offset[extents] - known.first[extents] * stride
        return Spans(known.part[extents], base + first * stride, base + stop * stride)


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
