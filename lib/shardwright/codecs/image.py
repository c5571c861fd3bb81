"""Encoded pictures, kept as they are: JPEG, PNG, WebP. The magic bytes say which; decoding needs the [images] extra."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs.npy import check_array
from shardwright.errors import DecodeError, MissingDependencyError
from shardwright.schema import Field

FORMATS = ("jpeg", "png", "webp")


def probe_image(data: bytes | memoryview) -> str | None:
    """The format that the magic bytes name: 'jpeg', 'png', 'webp', or None."""
    head = bytes(data[:12])
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "webp"
    return None


def decode_image(field: Field, data: bytes | memoryview) -> npt.NDArray[Any]:
    """The picture as uint8 or uint16 of shape (height, width[, channels]).

    A grey picture in a field of shape (h, w, 1) gets its channel axis. Raises DecodeError for bytes that are no picture, are
    damaged, or have another dtype or shape than `field` declares.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingDependencyError("decoding images needs imagecodecs: pip install 'shardwright[images]'") from error
    kind = probe_image(data)
    if kind is None:
        raise DecodeError(f"field {field.name!r}: not a {', '.join(FORMATS)} picture (it begins with {bytes(data[:8])!r})")
    decode = {"jpeg": imagecodecs.jpeg8_decode, "png": imagecodecs.png_decode, "webp": imagecodecs.webp_decode}[kind]
    try:
        image: npt.NDArray[Any] = np.asarray(decode(bytes(data)))
    except (RuntimeError, ValueError) as error:
        raise DecodeError(f"field {field.name!r}: a damaged {kind} ({error})") from error
    if image.ndim == 2 and len(field.shape) == 3 and field.shape[2] in (1, None):
        image = image[:, :, None]
    check_array(field, image)
    return image
