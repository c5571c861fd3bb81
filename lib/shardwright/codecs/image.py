"""Encoded pictures: JPEG, PNG, WebP, JPEG XL. The magic bytes say which; coding them needs the [images] extra."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs.extra import imagecodecs
from shardwright.codecs.jpeg import decode_jpeg_into, jpeg_shape
from shardwright.codecs.npy import check_array
from shardwright.codecs.options import ImageCodec, Jpeg, JpegXl, Png
from shardwright.errors import DecodeError, EncodeError
from shardwright.schema import Field

FORMATS = ("jpeg", "png", "webp", "jpegxl")
_JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
"""A bare codestream, and one in a container (ISO/IEC 18181-2)."""


def probe_image(data: bytes | memoryview) -> str | None:
    """The format that the magic bytes name: 'jpeg', 'png', 'webp', 'jpegxl', or None."""
    head = bytes(data[:12])
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "webp"
    if head.startswith(_JPEG_XL):
        return "jpegxl"
    return None


def encode_image(field: Field, array: npt.NDArray[Any], options: ImageCodec) -> bytes:
    """`array`, uint8 or uint16 of shape (height, width[, channels]), as a picture; the same bytes for the same array.

    Raises EncodeError for what the format can't hold.
    """
    problem = f"field {field.name!r}: no {options.codec} of {array.dtype} {array.shape}, expected {options.accepts}"
    if not options.takes(array.dtype.name, array.shape):
        raise EncodeError(problem)
    if array.shape[2:] == (1,):
        array = array[:, :, 0]
    array, codec = np.ascontiguousarray(array), imagecodecs()
    try:
        if isinstance(options, Jpeg):
            return bytes(codec.jpeg8_encode(array, options.quality, subsampling=options.subsampling))
        if isinstance(options, Png):
            return bytes(codec.png_encode(array, options.level))
        if isinstance(options, JpegXl):
            quality = {"lossless": True} if options.lossless else {"distance": options.distance, "lossless": False}
            return bytes(codec.jpegxl_encode(array, effort=options.effort, numthreads=1, **quality))
        return bytes(codec.webp_encode(array, options.quality, lossless=options.lossless, numthreads=1))
    except (RuntimeError, ValueError) as error:
        raise EncodeError(f"{problem} ({error})") from error


def decode_image_into(field: Field, data: bytes | memoryview, out: npt.NDArray[Any]) -> None:
    """`decode_image` into `out`, of the field's dtype and shape, in C order; JPEG and PNG without a copy. Raises as it does."""
    kind, plain = probe_image(data), out[:, :, 0] if out.shape[2:] == (1,) else out
    if kind == "jpeg" and out.dtype == np.uint8:
        shape = jpeg_shape(data)
        if shape is not None and shape == (*plain.shape, 1)[:3] and decode_jpeg_into(data, shape, plain.reshape(shape)):
            return
    elif kind == "png":
        try:
            imagecodecs().png_decode(data, out=plain)
        except (RuntimeError, ValueError):  # decoding it again says what is wrong
            pass
        else:
            return
    out[...] = decode_image(field, data)


def decode_image(field: Field, data: bytes | memoryview) -> npt.NDArray[Any]:
    """The picture as uint8 or uint16 of shape (height, width[, channels]).

    A grey picture in a field of shape (h, w, 1) gets its channel axis, a WebP in one of shape (h, w, 4) an alpha channel.
    Raises DecodeError for bytes that are no picture, are damaged, or have another dtype or shape than `field` declares.
    """
    kind = probe_image(data)
    if kind is None:
        raise DecodeError(f"field {field.name!r}: not a {', '.join(FORMATS)} picture (it begins with {bytes(data[:8])!r})")
    codec, data = imagecodecs(), bytes(data)
    try:
        if kind == "webp":  # which leaves out an alpha channel that is opaque all over
            image: npt.NDArray[Any] = codec.webp_decode(data, hasalpha=field.shape[2:] == (4,) or None)
        elif kind == "jpegxl":
            image = codec.jpegxl_decode(data, numthreads=1)
        else:
            image = codec.jpeg8_decode(data) if kind == "jpeg" else codec.png_decode(data)
    except (RuntimeError, ValueError) as error:
        raise DecodeError(f"field {field.name!r}: a damaged {kind} ({error})") from error
    if image.ndim == 2 and len(field.shape) == 3 and field.shape[2] in (1, None):
        image = image[:, :, None]
    check_array(field, image)
    return image
