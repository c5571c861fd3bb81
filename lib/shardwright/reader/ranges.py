"""Addressable fields of varying length (encoded media): the byte range of every value stands in a side file of its part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs import decode_value, npy_header
from shardwright.errors import CorruptError
from shardwright.format.batch import stack
from shardwright.reader.catalog import Catalog
from shardwright.reader.files import VersionFiles
from shardwright.schema import Field

I64 = npt.NDArray[np.int64]


class RangesColumn:
    """The values of `field`, decoded one by one."""

    def __init__(self, field: Field, catalog: Catalog, files: VersionFiles) -> None:
        self._field, self._parts, self._files = field, catalog.parts, files
        self._ranges: dict[int, I64] = {}

    def locate(self, indexes: I64, row_groups: I64) -> I64:  # noqa: ARG002 - the protocol's
        """The index itself."""
        return indexes

    def fetch(self, located: I64) -> list[memoryview]:
        """The stored bytes of each value."""
        parts = np.searchsorted(self._parts.first, located, side="right") - 1
        out: list[memoryview] = [memoryview(b"")] * len(located)
        for part in np.unique(parts).tolist():
            rows = np.flatnonzero(parts == part)
            starts, stops = self._ranges_of(part)[:, located[rows] - self._parts.first[part]]
            for row, data in zip(rows.tolist(), self._files.spans(part, starts, stops), strict=True):
                out[row] = data
        return out

    def decode(self, fetched: list[memoryview]) -> dict[str, npt.NDArray[Any]]:
        """One array where all shapes are declared, else an object array of arrays."""
        return {self._field.name: stack(self._field, [decode_value(self._field, data) for data in fetched])}

    def _ranges_of(self, part: int) -> I64:
        """First and past-the-end byte of each of a part's values, int64 (2, samples)."""
        if part not in self._ranges:
            self._ranges[part] = self._read_ranges(part)
        return self._ranges[part]

    def _read_ranges(self, part: int) -> I64:
        directory, _, file = self._parts.name[part].rpartition("/")
        name = f"{directory}/_{file.removesuffix('.parquet')}.{self._field.name}.npy"
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
