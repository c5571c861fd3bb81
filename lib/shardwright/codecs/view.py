"""A part of an encoded picture, at the size that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy.typing as npt

from shardwright.codecs.extra import opencv
from shardwright.codecs.image import decode_image, probe_image
from shardwright.codecs.jpeg import decode_jpeg_reduced, jpeg_shape
from shardwright.codecs.npy import fits_shape
from shardwright.schema import Field

Picture = npt.NDArray[Any]
_REDUCED = (8, 4, 2)


class View(NamedTuple):
    """A rectangle of a picture, in its pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


ViewOf = Callable[[int, int], View]
"""What is wanted of a picture, given its height and width."""


def decode_view_into(field: Field, data: bytes | memoryview, view_of: ViewOf, out: Picture) -> None:
    """The part of a picture that `view_of` names, resized to `out`: of the field's dtype, (height, width[, channels]), C order.

    A part that is at least twice as large is first halved, as often as it stays no smaller than wanted: a JPEG by the decoder's
    inverse DCT, which leaves out the work too, others by the mean of pixels. Then it is interpolated bilinearly between pixel
    centres. Raises DecodeError for bytes that are no such picture as `field` declares.
    """
    shape = jpeg_shape(data) if probe_image(data) == "jpeg" and field.dtype == "uint8" else None
    if shape is not None and fits_shape(field, shape[:2] if len(field.shape) == 2 and shape[2] == 1 else shape):
        view = view_of(*shape[:2])
        image = decode_jpeg_reduced(data, shape, max(out.shape[0] / view.height, out.shape[1] / view.width))
        if image is not None:
            _place(image, _scaled(view, shape, image.shape), out)
            return
    image = decode_image(field, data)
    _place(image, view_of(*image.shape[:2]), out)


def _scaled(view: View, shape: tuple[int, ...], reduced: tuple[int, ...]) -> View:
    """The same part of a picture of `shape` when it was reduced, to the nearest pixel."""
    if shape == reduced:
        return view
    top, height = _scaled_range(view.top, view.height, shape[0], reduced[0])
    left, width = _scaled_range(view.left, view.width, shape[1], reduced[1])
    return View(top=top, left=left, height=height, width=width, mirrored=view.mirrored)


def _scaled_range(first: int, count: int, size: int, reduced: int) -> tuple[int, int]:
    fewer = max(1, round(count * reduced / size))
    return min(round(first * reduced / size), reduced - fewer), fewer


def _place(image: Picture, view: View, out: Picture) -> None:
    part = image[view.top : view.top + view.height, view.left : view.left + view.width]
    if part.shape == out.shape and not view.mirrored:
        out[...] = part
        return
    part, out = (each[:, :, 0] if each.ndim > 2 and each.shape[2] == 1 else each for each in (part, out))
    cv2 = opencv()
    if part.shape == out.shape:
        cv2.flip(part, 1, dst=out)
        return
    for by in _REDUCED:
        height, width = part.shape[0] // by, part.shape[1] // by
        if height >= out.shape[0] and width >= out.shape[1]:
            part = cv2.resize(part[: height * by, : width * by], (width, height), interpolation=cv2.INTER_AREA)
            break
    cv2.resize(part, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)
    if view.mirrored:
        cv2.flip(out, 1, dst=out)
