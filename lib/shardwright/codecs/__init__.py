"""How values become bytes and come back: `numpy.save` cells and encoded pictures. Nothing is ever unpickled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs.image import decode_image, probe_image
from shardwright.codecs.npy import decode_npy, encode_npy, npy_header
from shardwright.schema import Field

__all__ = ["decode_image", "decode_npy", "decode_value", "encode_npy", "npy_header", "probe_image"]


def decode_value(field: Field, data: bytes | memoryview) -> npt.NDArray[Any]:
    """The array that one stored binary value of an array `field` holds, of the field's dtype and shape.

    Raises DecodeError when the bytes are no such value, or have another dtype or shape.
    """
    if field.is_image:
        return decode_image(field, data)
    if field.codec is not None and field.codec.name == "raw":
        return np.frombuffer(data, field.numpy_dtype).reshape([size or 0 for size in field.shape])
    return decode_npy(field, data)
