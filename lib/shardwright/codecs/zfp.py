"""ZFP streams in fixed-accuracy mode: float arrays of 1 to 4 dimensions within an absolute error. Needs the [images] extra.

Format: https://zfp.readthedocs.io/en/release1.0.1/; each value is one stream with ZFP's full header (magic, scalar type
and shape, mode). A value without elements is no bytes at all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs.arrays import NON_FINITE
from shardwright.codecs.extra import imagecodecs
from shardwright.codecs.npy import check_array, check_shape
from shardwright.errors import DecodeError, EncodeError
from shardwright.schema import Field

_MAGIC = b"zfp\x05"
_DTYPES = {2: "<f4", 3: "<f8"}
_HEADER_BYTES = 12
_ACCURACY = range(2178, 4095)
"""The mode codes of fixed accuracy with a tolerance of a power of two; in other modes a block may be as long as it says."""
_SIDE = 4
"""Elements along each side of a block, which is coded in at least one bit."""


def encode_zfp(field: Field, array: npt.NDArray[Any], tolerance: float) -> bytes:
    """`array`, of the field's dtype and shape, as a stream from which no element comes back off by more than `tolerance`.

    Raises EncodeError for NaN and infinity, which ZFP can't hold, and for numbers so large beside the tolerance that their
    dtype does not resolve it.
    """
    if not array.size:
        if array.shape != _empty_shape(field):
            raise EncodeError(f"field {field.name!r}: an array without elements, of a shape that 'zfp' can't keep")
        return b""
    if not np.isfinite(array).all():
        raise EncodeError(f"field {field.name!r}: {NON_FINITE}, which codec 'zfp' can't hold")
    codec = imagecodecs()
    try:
        data = bytes(codec.zfp_encode(np.ascontiguousarray(array), tolerance, mode="a", execution="serial", header=True))
    except (RuntimeError, ValueError) as error:
        raise EncodeError(f"field {field.name!r}: ZFP takes no array of shape {array.shape} ({error})") from error
    off = float(np.abs(decode_zfp(field, data).astype("f8") - array).max())
    if not off <= tolerance:
        raise EncodeError(
            f"field {field.name!r}: ZFP came back off by {off:.3g}, tolerance is {tolerance:.3g}: the numbers (up to "
            f"{np.abs(array).max():.3g}) are too large for that; raise the tolerance or use another codec"
        )
    return data


def decode_zfp(field: Field, data: bytes | memoryview) -> npt.NDArray[Any]:
    """The array in a stream. Raises DecodeError for other bytes, dtypes or shapes than `field` declares."""
    if not len(data):
        empty = np.empty(_empty_shape(field), field.numpy_dtype)
        if empty.size:
            raise DecodeError(f"field {field.name!r}: no bytes where a ZFP stream was expected")
        return empty
    head = bytes(data[:_HEADER_BYTES])
    meta = int.from_bytes(head[4:], "little")
    dtype, dimensions = _DTYPES.get(meta & 3), (meta >> 2 & 3) + 1
    if len(head) < _HEADER_BYTES or head[:4] != _MAGIC or dtype is None or meta >> 52 not in _ACCURACY:
        raise DecodeError(f"field {field.name!r}: not a ZFP stream of floats in fixed-accuracy mode (it begins with {head!r})")
    bits = 48 // dimensions
    shape = tuple((meta >> 4 + bits * axis & (1 << bits) - 1) + 1 for axis in reversed(range(dimensions)))
    check_shape(field, shape)
    if dtype != field.numpy_dtype.str:
        raise DecodeError(f"field {field.name!r}: expected dtype {field.dtype}, found {np.dtype(dtype).name}")
    blocks = math.prod(-(-size // _SIDE) for size in shape)
    if blocks > 8 * len(data):
        raise DecodeError(f"field {field.name!r}: a ZFP stream of shape {shape} cut short to {len(data)} bytes")
    # ZFP reads on where a damaged stream ends: the zeros are for that. No block takes more than twice its elements' bytes.
    room = bytes(2 * blocks * _SIDE**dimensions * np.dtype(dtype).itemsize)
    try:
        array: npt.NDArray[Any] = imagecodecs().zfp_decode(bytes(data) + room)
    except (RuntimeError, ValueError) as error:
        raise DecodeError(f"field {field.name!r}: a damaged ZFP stream ({error})") from error
    check_array(field, array)
    return array


def _empty_shape(field: Field) -> tuple[int, ...]:
    return tuple(size or 0 for size in field.shape)
