"""Writing one part: Parquet whose bytes depend on the samples alone, with the place of every addressable value known.

Every row group is written as one table with one chunk per column and every option explicit, since pyarrow's bytes depend on
the chunking and on its defaults.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, StorageError
from shardwright.format.index import Extent
from shardwright.format.layout import KEY, Column
from shardwright.schema import NUMBERS

MAX_PAGE_BYTES = 2**31 - 2**20
"""An addressable column has one page per row group, and Parquet's page sizes are signed 32-bit."""
_READ_BACK = (0, 0.5, 1)
_WITH_STATISTICS = (*NUMBERS, "bool", "string", "halffloat", "float", "double", "timestamp[us]")
"""Arrow types whose least and greatest value stand in the footer, where readers find which row groups to skip."""


@dataclass(frozen=True, kw_only=True)
class WrittenPart:
    """What a part turned out to be."""

    size: int
    """Bytes of the file."""
    sha256: str
    row_group_samples: tuple[int, ...]
    extents: tuple[tuple[Extent, ...], ...]
    """For each row group."""
    ranges: dict[str, bytes]
    """Field of varying length -> the bytes of its side file: int64 (2, samples)."""
    column_bytes: dict[str, tuple[int, int]]
    """Column -> bytes of its pages, headers included, before and after Parquet's compression."""


class PartWriter:
    """Writes row groups to `path`, which must not exist yet."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._schema = pa.schema([column.arrow_field for column in columns])
        self._samples: list[int] = []
        self._probes: list[dict[str, list[tuple[int, bytes]]]] = []
        self._lengths: list[dict[str, npt.NDArray[np.int64]]] = []
        self._writer = pq.ParquetWriter(path, self._schema, **_options(self._columns))

    def write(self, arrays: Sequence[pa.Array]) -> None:
        """Write one row group: one array per column, in the columns' Arrow types. Raises StorageError for a value too long."""
        table = pa.Table.from_arrays(list(arrays), schema=self._schema)
        for column, array in zip(self._columns, arrays, strict=True):
            if column.kind != "compressed" and array.nbytes + 4 * len(array) > MAX_PAGE_BYTES:
                raise StorageError(f"field {column.name!r}: {array.nbytes} bytes in one row group, at most {MAX_PAGE_BYTES}")
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._samples.append(table.num_rows)
        self._probes.append({c.name: _probe(c, a) for c, a in zip(self._columns, arrays, strict=True) if c.kind == "fixed"})
        ranged = ((c, a) for c, a in zip(self._columns, arrays, strict=True) if c.kind == "ranges")
        self._lengths.append({column.name: _lengths(array) for column, array in ranged})

    def close(self) -> WrittenPart:
        """Finish the file, find every addressable value in it, read some back, and hash it."""
        self._writer.close()
        metadata = pq.read_metadata(self._path)
        with open(self._path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            extents = tuple(self._extents(metadata.row_group(i), i, view) for i in range(metadata.num_row_groups))
            digest = hashlib.sha256(view).hexdigest()
            size = len(view)
        ranges = {
            column.name: _npy(np.concatenate([lengths[column.name] for lengths in self._lengths], axis=1))
            for column in self._columns
            if column.kind == "ranges"
        }
        return WrittenPart(
            size=size, sha256=digest, row_group_samples=tuple(self._samples), extents=extents, ranges=ranges,
            column_bytes=_column_bytes(self._columns, metadata),
        )  # fmt: skip

    def _extents(self, group: Any, number: int, view: mmap.mmap) -> tuple[Extent, ...]:
        out = []
        for ordinal, column in enumerate(self._columns):
            if column.kind == "compressed":
                continue
            chunk = group.column(ordinal)
            count = group.num_rows
            if column.kind == "fixed":
                data_bytes = count * column.stride
            else:
                lengths = self._lengths[number][column.name]
                data_bytes = int((lengths[1] - lengths[0]).sum()) + 4 * count
            # one uncompressed PLAIN page without levels: what the chunk has beyond the values is the page's header
            header = chunk.total_compressed_size - data_bytes
            offset = chunk.data_page_offset + header
            if column.kind == "fixed":
                self._check_fixed(column, number, offset, view)
                out.append(Extent(field=column.name, first=0, count=count, offset=offset, stride=column.stride))
            else:
                lengths += offset
                _check_ranges(column, lengths, view, self._path)
                out.append(Extent(field=column.name, first=0, count=count, offset=offset, stride=0))
        return tuple(out)

    def _check_fixed(self, column: Column, number: int, offset: int, view: mmap.mmap) -> None:
        for row, expected in self._probes[number][column.name]:
            start = offset + row * column.stride
            if view[start : start + column.stride] != expected:
                raise CorruptError(f"{self._path}: value {row} of {column.name!r} is not at byte {start}; this is a defect")


def _column_bytes(columns: Sequence[Column], metadata: pq.FileMetaData) -> dict[str, tuple[int, int]]:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = {column.name: [group.column(ordinal) for group in groups] for ordinal, column in enumerate(columns)}
    return {
        name: (sum(chunk.total_uncompressed_size for chunk in own), sum(chunk.total_compressed_size for chunk in own))
        for name, own in chunks.items()
    }


def _probe(column: Column, array: pa.Array) -> list[tuple[int, bytes]]:
    rows = sorted({int(share * (len(array) - 1)) for share in _READ_BACK})
    if column.physical_dtype is None:
        return [(row, array[row].as_py()) for row in rows]
    numbers = ((row, array.slice(row, 1).to_numpy(zero_copy_only=False)) for row in rows)  # a Python float loses a NaN's bits
    return [(row, number.astype(column.physical_dtype).tobytes()) for row, number in numbers]


def _lengths(array: pa.Array) -> npt.NDArray[np.int64]:
    """First and past-the-end byte of each value, relative to the page's data: each value follows its 4-byte length."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    offsets -= offsets[0]
    prefix = 4 * np.arange(1, len(array) + 1, dtype=np.int64)
    return np.stack([offsets[:-1] + prefix, offsets[1:] + prefix])


def _check_ranges(column: Column, ranges: npt.NDArray[np.int64], view: mmap.mmap, path: Path) -> None:
    for share in _READ_BACK:
        start, end = ranges[:, int(share * (ranges.shape[1] - 1))].tolist()
        if int.from_bytes(view[start - 4 : start], "little") != end - start:
            raise CorruptError(f"{path}: a value of {column.name!r} is not at byte {start}; this is a defect")


def _npy(array: npt.NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, "<i8"), allow_pickle=False)
    return buffer.getvalue()


def _options(columns: Sequence[Column]) -> dict[str, Any]:
    addressable = [column.name for column in columns if column.kind != "compressed"]
    compressed = [column for column in columns if column.kind == "compressed"]
    dictionary = [
        c.name for c in compressed if not (pa.types.is_binary(c.arrow_type) or pa.types.is_fixed_size_binary(c.arrow_type))
    ]
    statistics = [column.name for column in columns if column.name != KEY and str(column.arrow_type) in _WITH_STATISTICS]
    return {
        "version": "2.6",
        "data_page_version": "1.0",
        "compression": dict.fromkeys(addressable, "none") | {c.name: c.codec.name for c in compressed},
        "compression_level": {c.name: c.codec.effective_level for c in compressed if c.codec.effective_level is not None}
        or None,
        "use_dictionary": dictionary or False,
        "write_statistics": statistics or False,
        "column_encoding": dict.fromkeys(addressable, "PLAIN"),
        "data_page_size": MAX_PAGE_BYTES,
        "max_rows_per_page": 2**31 - 1,
        "write_batch_size": 1024,
        "dictionary_pagesize_limit": 2**20,
        "write_page_checksum": True,
        "write_page_index": False,
        "store_schema": False,
    }
