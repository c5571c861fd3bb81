"""Addressable fields of one width: the bytes of a value lie at a place that the index gives."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs import decode_block
from shardwright.format.layout import Column
from shardwright.reader.catalog import Extents
from shardwright.reader.files import VersionFiles
from shardwright.schema import Field

I64 = npt.NDArray[np.int64]

_LOWEST = 4096
_ADDRESSES = 2**48 - _LOWEST
"""User space on 64-bit Linux and macOS; on x86 half of it."""
_WIDE_BYTES = 2**14
"""From here on copying value by value costs no more, and NumPy can't describe the view: its bytes would pass 2^63."""
_TOUCH_BYTES = 512
_UNMAPPED = np.int64(-(2**63))


class LocalFixedColumn:
    """Values of local parts, gathered from the memory maps of all parts in one NumPy call.

    Where a value lies is its *address*. `view[addresses]` over a view of the whole address space takes values from any number
    of maps at once; a gather for each part, put together afterwards, copies everything twice and reached three quarters of that
    speed with 4 parts. Nothing but the addressed bytes is touched, and these lie in a map: `Catalog` checks every extent
    against the size of its part, `VersionFiles` the size of the part, `Dataset` the indexes.
    """

    def __init__(self, column: Column, field: Field | None, extents: Extents, files: VersionFiles) -> None:
        self._column, self._extents, self._files, self._values = column, extents, files, Values(column, field)
        self._width = column.stride - len(column.header)
        self._bases = np.full(len(extents.first), _UNMAPPED)

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """The address of each value."""
        extents = self._extents.find(indexes, row_groups)
        bases = self._bases[extents]
        if bases.min(initial=0) == _UNMAPPED:
            self._map(np.unique(extents))
            bases = self._bases[extents]
        addresses: I64 = bases + indexes * self._column.stride
        return addresses

    def fetch(self, located: I64) -> npt.NDArray[Any]:
        """The values' bytes, of shape (n,) as one void each, or (n, width)."""
        if self._width < _WIDE_BYTES:
            if self._width > _TOUCH_BYTES:
                _memory(1)[located]  # the first bytes alone: their cache and page-table misses overlap, 5 % faster in all
            values: npt.NDArray[Any] = _memory(self._width)[located]
            return values
        out = np.empty((len(located), self._width), np.uint8)
        memory = _memory(1)
        for row, address in enumerate(located.tolist()):
            out[row] = memory[address : address + self._width]
        return out

    def decode(self, fetched: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """The typed array."""
        return {self._column.name: self._values(fetched)}

    def _map(self, extents: I64) -> None:
        """Find out where sample 0 would lie if each of these extents reached back to it."""
        known = self._extents
        starts = self._files.addresses(known.part[extents]) + known.offset[extents] + len(self._column.header)
        self._bases[extents] = starts - known.first[extents] * known.stride - _LOWEST


class RemoteFixedColumn:
    """Values of remote parts, by ranges; neighbours are fetched together."""

    def __init__(self, column: Column, field: Field | None, extents: Extents, files: VersionFiles) -> None:
        self._column, self._extents, self._files, self._values = column, extents, files, Values(column, field)

    def locate(self, indexes: I64, row_groups: I64) -> I64:
        """The extent of each value, and its first byte: shape (n, 2)."""
        known, extents = self._extents, self._extents.find(indexes, row_groups)
        return np.stack([extents, known.offset[extents] + (indexes - known.first[extents]) * known.stride], axis=1)

    def fetch(self, located: I64) -> npt.NDArray[Any]:
        """The values' bytes, shape (n, width)."""
        parts = self._extents.part[located[:, 0]]
        starts, stops = located[:, 1] + len(self._column.header), located[:, 1] + self._column.stride
        out = np.empty((len(located), self._column.stride - len(self._column.header)), np.uint8)
        for part in np.unique(parts).tolist():
            rows = np.flatnonzero(parts == part)
            for row, data in zip(rows.tolist(), self._files.spans(part, starts[rows], stops[rows]), strict=True):
                out[row] = np.frombuffer(data, np.uint8)
        return out

    def decode(self, fetched: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """The typed array."""
        return {self._column.name: self._values(fetched)}


class Values:
    """Turns bytes into the values of a fixed column: of the field's dtype, shape (n, *field.shape).

    Without a field (the sample key): uint8 of shape (n, 16).
    """

    def __init__(self, column: Column, field: Field | None) -> None:
        self._dtype = np.dtype(np.uint8) if field is None else field.numpy_dtype
        self._stored = self._dtype if column.physical_dtype is None else np.dtype(column.physical_dtype)
        width = column.stride - len(column.header)
        self._shape = (width,) if field is None else tuple(size or 0 for size in field.shape)
        encoded = field is not None and field.codec is not None and field.codec.name not in ("npy", "raw")
        self._decode = functools.partial(decode_block, field) if field is not None and encoded else None
        self._width = width

    def __call__(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values whose bytes are `data`, contiguous; no copy where they are stored as they are."""
        if self._decode is not None:
            return self._decode(data.view(np.uint8).reshape(len(data), self._width))
        values = data.view(self._stored).reshape(len(data), *self._shape)
        return values if self._stored == self._dtype else values.astype(self._dtype)


@functools.cache
def _memory(width: int) -> npt.NDArray[Any]:
    """A view of the address space whose item i is the `width` bytes from address _LOWEST + i: overlapping, read-only."""

    class _Space:
        __array_interface__ = {
            "version": 3, "data": (_LOWEST, True), "shape": (_ADDRESSES - width,), "strides": (1,),
            "typestr": f"|V{width}" if width > 1 else "|u1",
        }  # fmt: skip

    return np.asarray(_Space())
