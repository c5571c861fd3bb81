"""What every contender makes of an encoded picture: one decoder, one crop, for all. Needs NumPy, simplejpeg and OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
TWICE = 2 * SIDE


def picture(data: Any) -> U8:
    """The middle of a JPEG, given as bytes or a view of them, (224, 224, 3); of a larger one the middle 448 pixels, halved."""
    import simplejpeg  # type: ignore[import-untyped]

    return middle(simplejpeg.decode_jpeg(data))


def picture_into(data: Any, scratch: U8, out: U8) -> None:
    """`picture` into `out`, decoded into `scratch`, which is large enough."""
    import simplejpeg

    out[...] = middle(simplejpeg.decode_jpeg(data, buffer=scratch))


def middle(decoded: U8) -> U8:
    """The same of a picture that is decoded already."""
    if min(decoded.shape[:2]) < TWICE:
        return crop(decoded, SIDE)
    import cv2

    halved: U8 = cv2.resize(crop(decoded, TWICE), (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return halved


def batch_of(pictures: Sequence[U8], *, normalise: bool) -> npt.NDArray[Any]:
    """(n, 224, 224, 3), uint8, or float32 by ImageNet's mean and standard deviation."""
    stacked = np.stack(pictures)
    return normalised(stacked) if normalise else stacked


def normalised(batch: U8) -> npt.NDArray[np.float32]:
    """(x - mean) / std in one array, by two passes."""
    out = np.multiply(batch, 1 / STD, dtype=np.float32)
    out -= MEAN / STD
    return out


def crop(decoded: U8, side: int) -> U8:
    """The middle, (side, side, 3)."""
    top, left = ((size - side) // 2 for size in decoded.shape[:2])
    return decoded[top : top + side, left : left + side]
