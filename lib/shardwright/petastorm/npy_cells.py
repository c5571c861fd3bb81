"""`numpy.save` cells of any dtype and shape, as Petastorm's NdarrayCodec stores them, without unpickling and fast.

Format: numpy.lib.format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). A column's cells mostly have
one header, or few: a header is parsed once and then known by its bytes.
"""

from __future__ import annotations

import functools
import io
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_MAGIC = b"\x93NUMPY"
_MOST_HEADER_BYTES = 2**16


class _Layout(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    elements: int
    nbytes: int


def decode_cell(cell: memoryview) -> npt.NDArray[Any]:
    """The array of a cell, a writable copy, in Fortran order where it was stored so.

    Raises ValueError for bytes that are no such cell, whose length is not what the header says, or that hold Python objects.
    """
    size = _header_bytes(cell)
    layout = _layout(bytes(cell[:size]))
    if len(cell) - size < layout.nbytes:
        raise ValueError(
            f"expected {layout.nbytes} bytes of {layout.dtype} {layout.shape} after the header, {len(cell) - size} found"
        )
    if layout.dtype.itemsize == 0:  # strings of no characters: there is nothing to read them from
        return np.empty(layout.shape, layout.dtype)
    array = np.frombuffer(cell, layout.dtype, layout.elements, size)
    if layout.fortran:
        return array.reshape(layout.shape[::-1]).transpose().copy(order="F")
    return array.reshape(layout.shape).copy()


def _header_bytes(cell: memoryview) -> int:
    """The bytes before the data."""
    if bytes(cell[:6]) != _MAGIC or len(cell) < 12:
        raise ValueError(f"not numpy.save bytes (they begin with {bytes(cell[:8])!r})")
    size = 10 + int.from_bytes(cell[8:10], "little") if cell[6] == 1 else 12 + int.from_bytes(cell[8:12], "little")
    if size > min(len(cell), _MOST_HEADER_BYTES):
        raise ValueError(f"numpy.save bytes with a header of {size} bytes, of {len(cell)} in all")
    return size


@functools.lru_cache(maxsize=1024)
def _layout(header: bytes) -> _Layout:
    """What a header says. NumPy parses it (`ast.literal_eval`)."""
    stream = io.BytesIO(header)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version in ((2, 0), (3, 0)):  # 3.0 is 2.0 in UTF-8: only names of structured dtypes differ
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"numpy.save bytes of an unknown version {version}")
    if dtype.hasobject:
        raise ValueError("numpy.save bytes of Python objects: they are a pickle, which is not executed")
    count = math.prod(shape)
    return _Layout(dtype, shape, fortran, count, count * dtype.itemsize)
