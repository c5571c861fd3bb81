"""Cells of Petastorm's array codecs as columns that a field can have.

A function here takes a column and returns another, null where a cell is damaged, with the reasons by row. Nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.codecs import encode_npy
from shardwright.sources.base import BATCH_BYTES

Converted = tuple[pa.Array, dict[int, str]]
"""A column, and why rows in it have no value."""
_MEMBER = "arr.npy"
"""What CompressedNdarrayCodec calls its array: `numpy.savez_compressed(file, arr=array)`."""
_MAX_BYTES = 2**30
"""Of one array: what a few bytes say that they unpack to is not believed."""
_NAT = np.iinfo(np.int64).min
_DAMAGE = (
    ValueError, TypeError, SyntaxError, EOFError, OSError, LookupError, NotImplementedError, RuntimeError, MemoryError,
    OverflowError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What the parsers of NumPy and zip files make of hostile bytes."""
_Array = npt.NDArray[Any]
Step = Callable[[bytes], Any]


@dataclass(frozen=True)
class CellConverter:
    """Applies `steps` to each cell of a binary column, one after the other; the result is a column of type `kind`."""

    steps: tuple[Step, ...]
    kind: pa.DataType

    def __call__(self, column: pa.Array) -> Converted:
        """The new column, and why rows have no value."""
        values: list[Any] = []
        bad: dict[int, str] = {}
        for row, cell in enumerate(column):
            value = cell.as_py()
            try:
                for step in self.steps if value is not None else ():
                    value = step(value)
                values.append(pa.scalar(value, self.kind).as_py() if value is not None else None)
            except (*_DAMAGE, pa.ArrowException) as error:
                values.append(None)
                bad[row] = f"not an array as declared ({type(error).__name__}: {str(error)[:200]})"
        return pa.array(values, self.kind), bad


def unzipped(cell: bytes) -> bytes:
    """The `numpy.save` bytes in a cell of CompressedNdarrayCodec."""
    with zipfile.ZipFile(io.BytesIO(cell)) as archive:
        if archive.getinfo(_MEMBER).file_size > _MAX_BYTES:
            raise ValueError(f"an array of more than {_MAX_BYTES} bytes")
        return archive.read(_MEMBER)


def array_scalar(cell: bytes) -> bool | int | float:
    """The one value of an array of shape ()."""
    array = _load(cell)
    if array.shape != () or array.dtype.kind not in "biuf":
        raise ValueError(f"expected one number, found {array.dtype} of shape {array.shape}")
    value: bool | int | float = array.item()
    return value


def json_of_array(cell: bytes) -> str:
    """An array of texts as nested lists in JSON; bytes as the characters of their codes, which keeps them all."""
    array = _load(cell)
    if array.dtype.kind not in "US":
        raise ValueError(f"expected texts, found {array.dtype}")
    return _json(np.char.decode(array, "latin-1").tolist() if array.dtype.kind == "S" else array.tolist())


def microseconds(cell: bytes) -> bytes:
    """An array of times as one of int64, microseconds since 1970. Raises ValueError for a fraction of one."""
    array = _load(cell)
    if array.dtype.kind != "M":
        raise ValueError(f"expected times, found {array.dtype}")
    out = array.astype("<M8[us]")
    if not (np.isnat(array) | (out == array)).all():
        raise ValueError("a time with a fraction of a microsecond, or out of its range")
    return encode_npy(out.astype(np.int64))


def json_of_lists(column: pa.Array) -> Converted:
    """A column of lists of texts as JSON."""
    values: list[str | None] = []
    bad: dict[int, str] = {}
    for row, cell in enumerate(column):
        try:
            values.append(_json(cell.as_py()) if cell.is_valid else None)
        except ValueError as error:  # a text that is no UTF-8
            values.append(None)
            bad[row] = str(error)
    return pa.array(values, pa.string()), bad


def slices(batch: pa.RecordBatch, compressed: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of about `BATCH_BYTES` each, by what the cells of its `compressed` columns say that they unpack to."""
    if not compressed:
        yield batch
        return
    start = total = 0
    for row in range(batch.num_rows):
        size = sum(_unpacked_bytes(batch[name][row].as_py()) for name in compressed)
        if row > start and total + size > BATCH_BYTES:
            yield batch.slice(start, row - start)
            start, total = row, 0
        total += size
    yield batch.slice(start)


def _unpacked_bytes(cell: bytes | None) -> int:
    try:
        with zipfile.ZipFile(io.BytesIO(cell or b"")) as archive:
            return min(archive.getinfo(_MEMBER).file_size, _MAX_BYTES)
    except _DAMAGE:
        return 0


def _load(cell: bytes) -> _Array:
    array: _Array = np.lib.format.read_array(io.BytesIO(cell), allow_pickle=False)
    return array


def _json(value: object) -> str:
    def characters(data: object) -> str:
        assert isinstance(data, bytes)
        return data.decode("latin-1")

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=characters)
