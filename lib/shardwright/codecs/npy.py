"""`numpy.save` cells: what Petastorm's NdarrayCodec expects.

Format: numpy.lib.format, versions 1.0 to 3.0 (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

from __future__ import annotations

import functools
import io
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import DecodeError
from shardwright.schema import Field


@functools.lru_cache(maxsize=256)
def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The bytes that `numpy.save` puts before C-order data of `dtype` and `shape`."""
    buffer = io.BytesIO()
    np.save(buffer, np.empty(shape, np.dtype(dtype).newbyteorder("<")), allow_pickle=False)
    return buffer.getvalue()[: -int(np.prod(shape)) * np.dtype(dtype).itemsize or None]


def encode_npy(array: npt.NDArray[Any]) -> bytes:
    """`array` as a `numpy.save` cell, in C order and little-endian."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return npy_header(little.dtype.str, little.shape) + little.tobytes()


def decode_npy(field: Field, data: bytes | memoryview, dtype: str | None = None) -> npt.NDArray[Any]:
    """The array in a `numpy.save` cell. Raises DecodeError for other bytes, dtypes or shapes than `field` declares.

    `dtype` is what the cell holds where it is not what the field declares.
    """
    buffer = io.BytesIO(data)
    try:
        array = np.lib.format.read_array(buffer, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise DecodeError(f"field {field.name!r}: not a numpy.save cell ({error})") from error
    check_array(field, array, dtype)
    return array


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of the array that a stream holds, whether it lies in Fortran order, and its dtype, which may be of objects.

    The stream is put behind the header. Raises ValueError for what is no `numpy.save` file.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"a header that can't be ({error})") from error
    return tuple(int(size) for size in shape), bool(fortran), dtype


def check_array(field: Field, array: npt.NDArray[Any], dtype: str | None = None) -> None:
    """Raise DecodeError unless `array` has the shape that `field` declares, and `dtype` or what it declares."""
    check_shape(field, array.shape)
    expected = np.dtype(dtype or field.dtype)
    if array.dtype.newbyteorder("=") != expected:
        raise DecodeError(f"field {field.name!r}: expected dtype {expected}, found {array.dtype}")


def check_shape(field: Field, shape: tuple[int, ...]) -> None:
    """Raise DecodeError unless `shape` is what `field` declares (None matches any size)."""
    if not fits_shape(field, shape):
        raise DecodeError(f"field {field.name!r}: expected shape {show_shape(field.shape)}, found {show_shape(shape)}")


def fits_shape(field: Field, shape: tuple[int, ...]) -> bool:
    """Whether `shape` is what `field` declares (None matches any size)."""
    if len(shape) != len(field.shape):
        return False
    for wanted, size in zip(field.shape, shape, strict=True):  # noqa: SIM110 - all() costs thrice as much, for every picture
        if wanted is not None and wanted != size:
            return False
    return True


def show_shape(shape: tuple[int | None, ...]) -> str:
    """A shape as people write it: (28, 28), or (?, ?, 3) where a dimension may vary."""
    inner = ", ".join("?" if size is None else str(size) for size in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
