"""JPEG on the hot path, by simplejpeg: straight into an array, and at a reduced size where less is wanted."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs.extra import simplejpeg

U8 = npt.NDArray[np.uint8]

_CHANNELS = {"Gray": ("GRAY", 1), "YCbCr": ("RGB", 3), "RGB": ("RGB", 3)}
_REDUCED = (8, 4, 2)
"""libjpeg-turbo has fast inverse DCTs for these alone; by 5/8, say, it takes longer than the whole picture."""
_KEPT_BYTES = 2**24
_scratch = threading.local()


def jpeg_shape(data: bytes | memoryview) -> tuple[int, int, int] | None:
    """Height, width and channels of a grey or coloured JPEG; None for what this module leaves to others (CMYK, damage)."""
    try:
        height, width, space, _ = simplejpeg().decode_jpeg_header(data)
    except ValueError:
        return None
    known = _CHANNELS.get(space)
    return None if known is None else (height, width, known[1])


def decode_jpeg_into(data: bytes | memoryview, shape: tuple[int, int, int], out: npt.NDArray[Any]) -> bool:
    """Decode a picture of `shape`, as `jpeg_shape` gives it, into `out` of this shape, uint8 in C order.

    False where it can't be decoded without loss of a row or a block; `out` then holds anything.
    """
    return _decode(data, shape, 1, out) is not None


def decode_jpeg_reduced(data: bytes | memoryview, shape: tuple[int, int, int], least: float) -> U8 | None:
    """A picture of `shape` at 1, 1/2, 1/4 or 1/8 of its height and width: the least of these that is no smaller than `least`.

    The array, (height, width, channels), is the caller's until this thread decodes the
    next one. None where it can't be decoded.
    """
    by = next((by for by in _REDUCED if by * least <= 1), 1)
    size = shape[0] * shape[1] * shape[2]
    kept: U8 | None = getattr(_scratch, "bytes", None)
    if kept is None or len(kept) < size:
        kept = np.empty(size, np.uint8)
        if size <= _KEPT_BYTES:
            _scratch.bytes = kept
    return _decode(data, shape, by, kept)


def _decode(data: bytes | memoryview, shape: tuple[int, int, int], by: int, buffer: npt.NDArray[Any]) -> U8 | None:
    height, width, channels = -(-shape[0] // by), -(-shape[1] // by), shape[2]
    space = "GRAY" if channels == 1 else "RGB"
    smallest = {} if by == 1 else {"min_height": height, "min_width": width}
    try:
        found: U8 = simplejpeg().decode_jpeg(data, space, buffer=buffer, **smallest)
    except ValueError:
        return None
    found = found.reshape(*found.shape[:2], channels)
    return found if by > 1 or found.shape == shape else None
