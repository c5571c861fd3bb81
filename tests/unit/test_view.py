"""Parts of pictures: without resizing the very pixels, else what OpenCV makes of the whole picture, nearly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest

from shardwright.codecs.image import decode_image, decode_image_into
from shardwright.codecs.jpeg import jpeg_shape
from shardwright.codecs.view import View, decode_view_into
from shardwright.errors import DecodeError
from shardwright.schema import Field

PHOTO = next((Path(__file__).parents[2] / "data/samples/photos").rglob("*.jpg")).read_bytes()
COLOUR = Field(name="image", dtype="uint8", shape=(None, None, 3), codec="image")
GREY = Field(name="image", dtype="uint8", shape=(None, None, 1), codec="image")
FLAT = Field(name="image", dtype="uint8", shape=(None, None), codec="image")
DEEP = Field(name="image", dtype="uint16", shape=(None, None, 3), codec="image")


def part(field: Field, data: bytes, view: View, *shape: int | None) -> npt.NDArray[Any]:
    out = np.full([size or 0 for size in shape], 7, field.numpy_dtype)
    decode_view_into(field, data, lambda height, width: view, out)
    return out


def pictures() -> list[tuple[Field, bytes, npt.NDArray[Any]]]:
    photo: npt.NDArray[Any] = imagecodecs.jpeg8_decode(PHOTO)
    grey = photo[:, :, 1].copy()
    return [
        (COLOUR, PHOTO, photo),
        (COLOUR, bytes(imagecodecs.png_encode(photo)), photo),
        (COLOUR, bytes(imagecodecs.webp_encode(photo, lossless=True)), photo),
        (GREY, bytes(imagecodecs.jpeg8_encode(grey, 100)), imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(grey, 100))),
        (FLAT, bytes(imagecodecs.png_encode(grey)), grey),
        (DEEP, bytes(imagecodecs.png_encode(photo.astype(np.uint16) * 257)), photo.astype(np.uint16) * 257),
    ]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_part_of_its_own_size_is_the_pixels_that_stand_there(number: int, mirrored: bool) -> None:
    field, data, whole = pictures()[number]
    expected = whole[30:130, 50:250][:, ::-1] if mirrored else whole[30:130, 50:250]
    found = part(field, data, View(top=30, left=50, height=100, width=200, mirrored=mirrored), 100, 200, *field.shape[2:])
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("height, width, mirrored", [(90, 130, False), (50, 50, True), (23, 31, False), (300, 500, True)])
def test_a_resized_part_is_close_to_the_mean_of_its_pixels(number: int, height: int, width: int, mirrored: bool) -> None:
    field, data, whole = pictures()[number]
    view = View(top=10, left=24, height=200, width=320, mirrored=mirrored)
    found = part(field, data, view, height, width, *field.shape[2:])
    enlarged = height > view.height
    expected = cv2.resize(
        whole[10:210, 24:344], (width, height), interpolation=cv2.INTER_LINEAR if enlarged else cv2.INTER_AREA
    )
    expected = (expected[:, ::-1] if mirrored else expected).reshape(found.shape)
    scale = np.iinfo(field.numpy_dtype).max
    error = np.sqrt(np.mean((found.astype(float) - expected) ** 2)) / scale
    other = np.sqrt(np.mean((found[:, ::-1].astype(float) - expected) ** 2)) / scale
    assert error < 0.06  # other filters; a pixel aside would be
    assert error < other / 2


def test_a_jpeg_is_decoded_at_the_size_that_is_wanted() -> None:
    """A quarter of the picture from a quarter of the inverse DCT, to the pixel; the same as simplejpeg gives."""
    import simplejpeg  # type: ignore[import-untyped]

    shape = jpeg_shape(PHOTO)
    assert shape is not None
    height, width = shape[0] // 4, shape[1] // 4
    whole = View(top=0, left=0, height=shape[0], width=shape[1])
    expected = simplejpeg.decode_jpeg(PHOTO, min_height=height, min_width=width)
    np.testing.assert_array_equal(part(COLOUR, PHOTO, whole, height, width, 3), expected)


@pytest.mark.parametrize("field, data", [(field, data) for field, data, _ in pictures()])
def test_decoding_into_an_array_gives_the_same_as_decoding(field: Field, data: bytes) -> None:
    expected = decode_image(field, data)
    out = np.empty_like(expected)
    decode_image_into(field, data, out)
    np.testing.assert_array_equal(out, expected)


def test_a_jpeg_that_breaks_off_is_grey_from_there_on_as_everywhere() -> None:
    data = PHOTO[: len(PHOTO) // 2]
    expected = decode_image(COLOUR, data)
    out = np.empty_like(expected)
    decode_image_into(COLOUR, data, out)
    np.testing.assert_array_equal(out, expected)
    view = View(top=5, left=9, height=300, width=300)
    np.testing.assert_array_equal(part(COLOUR, data, view, 300, 300, 3), expected[5:305, 9:309])


@pytest.mark.parametrize("data", [b"\xff\xd8\xff no picture", b"text", b""])
def test_damage_is_the_error_that_decoding_gives(data: bytes) -> None:
    with pytest.raises(DecodeError) as plain:
        decode_image(COLOUR, data)
    with pytest.raises(DecodeError) as found:
        part(COLOUR, data, View(top=0, left=0, height=10, width=10), 5, 5, 3)
    assert str(found.value) == str(plain.value)


def test_a_grey_jpeg_in_a_field_of_colours_is_damage_too() -> None:
    grey = bytes(imagecodecs.jpeg8_encode(np.zeros((20, 20), np.uint8)))
    with pytest.raises(DecodeError, match=r"expected shape \(\?, \?, 3\), found \(20, 20\)"):
        part(COLOUR, grey, View(top=0, left=0, height=10, width=10), 5, 5, 3)


def test_cmyk_is_decoded_by_another_decoder() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    cmyk = bytes(imagecodecs.jpeg8_encode(pixels, colorspace="CMYK", outcolorspace="CMYK"))
    field = Field(name="image", dtype="uint8", shape=(None, None, 4), codec="image")
    expected = decode_image(field, cmyk)
    np.testing.assert_array_equal(part(field, cmyk, View(top=2, left=2, height=8, width=8), 8, 8, 4), expected[2:10, 2:10])
