"""Pictures through every encoder and back, which fields each takes, and what a configuration may say."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from shardwright.codecs import (
    ValueCodec,
    decode_value,
    encode_value,
    is_lossless,
    probe_image,
    stored_field,
    value_codec,
)
from shardwright.codecs.options import BFloat16, Float16, Int8, Jpeg, JpegXl, Png, WebP, Zfp
from shardwright.errors import DecodeError, EncodeError, SchemaError
from shardwright.schema import Field
from tests.conftest import SAMPLES

CODECS: TypeAdapter[Any] = TypeAdapter(ValueCodec)
GREY, RGB, RGBA = (48, 64), (48, 64, 3), (48, 64, 4)
EXACT = [
    (codec, dtype, shape)
    for codec, dtypes, shapes in [
        (Png(), ("uint8", "uint16"), (GREY, (48, 64, 1), RGB, RGBA)),
        (Png(level=0), ("uint8",), (RGB,)),
        (JpegXl(lossless=True), ("uint8", "uint16"), (GREY, (48, 64, 1), RGB, RGBA)),
        (WebP(lossless=True), ("uint8",), (RGB, RGBA)),
    ]
    for dtype in dtypes
    for shape in shapes
]


def picture(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth, with some noise; where there is an alpha channel, parts are transparent."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: shape[0], : shape[1]]
    planes = [(np.sin(x / 9 + 2 * channel) + np.cos(y / 7)) / 5 + 0.5 for channel in range(shape[2] if shape[2:] else 1)]
    values = np.stack(planes, axis=-1).reshape(shape) + rng.normal(0, 0.004, shape)
    out = (values * np.iinfo(dtype).max).astype(dtype)
    if shape[2:] == (4,):
        out[:20, :20, 3] = 0
    return out


def field(dtype: str, shape: tuple[int | None, ...], **values: Any) -> Field:
    return Field.model_validate({"name": "x", "dtype": dtype, "shape": shape, **values})


@pytest.mark.parametrize("codec, dtype, shape", EXACT)
def test_lossless_pictures_come_back_as_they_were(codec: ValueCodec, dtype: str, shape: tuple[int, ...]) -> None:
    array = picture(dtype, shape)
    for declared in (shape, (None, None, *shape[2:])):
        stored = stored_field(field(dtype, declared), codec)
        assert stored.is_image
        assert is_lossless(stored)
        data = encode_value(stored, array)
        assert probe_image(data) == codec.codec
        assert np.array_equal(decode_value(stored, data), array)


@pytest.mark.parametrize(
    "codec, dtype, shape, off",
    [
        *((Jpeg(subsampling="444"), "uint8", shape, 10) for shape in (GREY, (48, 64, 1), RGB)),
        (Jpeg(quality=30), "uint8", RGB, 60),
        *((JpegXl(distance=0.5), dtype, shape, 12) for dtype in ("uint8", "uint16") for shape in (GREY, RGB, RGBA)),
        *((WebP(), "uint8", shape, 40) for shape in (RGB, RGBA)),
    ],
)
def test_lossy_pictures_come_back_nearly(codec: ValueCodec, dtype: str, shape: tuple[int, ...], off: int) -> None:
    array = picture(dtype, shape)
    stored = stored_field(field(dtype, shape), codec)
    assert not is_lossless(stored)
    data = encode_value(stored, array)
    assert probe_image(data) == codec.codec
    assert len(data) < array.nbytes / 3
    decoded = decode_value(stored, data)
    assert (decoded.dtype, decoded.shape) == (array.dtype, shape)
    seen = array[..., 3:] > 0 if shape[2:] == (4,) else True
    difference = np.abs(decoded.astype(int) - array)[np.broadcast_to(seen, shape)]
    scale = 257 if dtype == "uint16" else 1
    assert difference.max() > 0
    assert np.percentile(difference, 99) <= off * scale


@pytest.mark.parametrize("codec", [Jpeg(), WebP(), WebP(lossless=True), Png(), JpegXl(), JpegXl(lossless=True)])
def test_the_same_picture_gives_the_same_bytes(codec: ValueCodec) -> None:
    array = picture("uint8", (300, 200, 3))
    stored = stored_field(field("uint8", (None, None, 3)), codec)
    data = encode_value(stored, array)
    assert data == encode_value(stored, np.asfortranarray(array)) == encode_value(stored, array.copy())


def test_parameters_take_effect() -> None:
    array = np.asarray(imagecodecs.imread(SAMPLES / "photos/nature/chelsea.png"))[:100, :100]
    plain = field("uint8", (None, None, 3))

    def size(**options: Any) -> int:
        return len(encode_value(stored_field(plain, CODECS.validate_python(options)), array))

    assert size(codec="jpeg", quality=40) < size(codec="jpeg") < size(codec="jpeg", subsampling="444")
    assert size(codec="webp", quality=40) < size(codec="webp") < size(codec="webp", lossless=True)
    assert size(codec="png", level=9) < size(codec="png", level=0)
    assert size(codec="jpegxl", distance=3) < size(codec="jpegxl") < size(codec="jpegxl", lossless=True)
    assert size(codec="jpegxl", lossless=True, effort=7) < size(codec="jpegxl", lossless=True, effort=1)


def test_an_opaque_webp_keeps_its_alpha_channel() -> None:
    """libwebp leaves out an alpha channel that is 255 all over."""
    array = picture("uint8", RGBA)
    array[..., 3] = 255
    stored = stored_field(field("uint8", RGBA), WebP(lossless=True))
    assert np.array_equal(decode_value(stored, encode_value(stored, array)), array)


@pytest.mark.parametrize("container", [True, False])
def test_jpeg_xl_by_its_magic(container: bool) -> None:
    array = picture("uint8", RGB)
    data = bytes(imagecodecs.jpegxl_encode(array, lossless=True, usecontainer=container))
    assert data.startswith(b"\x00\x00\x00\x0cJXL ") == container
    assert probe_image(data) == "jpegxl"
    kept = field("uint8", (None, None, 3), codec="image")
    assert np.array_equal(decode_value(kept, data), array)
    assert is_lossless(kept)
    with pytest.raises(DecodeError, match="field 'x': a damaged jpegxl"):
        decode_value(kept, data[: len(data) // 2])


@pytest.mark.parametrize(
    "codec, values, message",
    [
        (
            Jpeg(),
            {"dtype": "uint16", "shape": RGB},
            r"field 'x': jpeg takes uint8, grey or RGB, of shape \(height, width\[, channels\]\); found uint16 \(48, 64, 3\)",
        ),
        (Jpeg(), {"dtype": "uint8", "shape": (8, 8, 2)}, r"jpeg takes uint8, grey or RGB, .* found uint8 \(8, 8, 2\)"),
        (Jpeg(), {"dtype": "uint8", "shape": RGBA}, r"jpeg takes uint8, grey or RGB, .* found uint8 \(48, 64, 4\)"),
        (WebP(), {"dtype": "uint8", "shape": GREY}, r"webp takes uint8, RGB or RGBA, .* found uint8 \(48, 64\)"),
        (WebP(), {"dtype": "uint8", "shape": (None, None, None)}, r"found uint8 \(\?, \?, \?\)"),
        (Png(), {"dtype": "float32", "shape": RGB}, "png takes uint8 or uint16, grey, RGB or RGBA, .* found float32"),
        (JpegXl(), {"dtype": "uint8", "shape": (8,)}, r"jpegxl takes uint8 or uint16, .* found uint8 \(8,\)"),
        (Png(), {"dtype": "string"}, "png takes .* found string"),
        (Zfp(), {"dtype": "int32", "shape": (4,)}, "field 'x': codec 'zfp' is for float32 and float64, found int32"),
        (
            Int8(),
            {"dtype": "float32", "shape": (None,)},
            "field 'x': codec 'int8' needs a fixed shape; 'float16' and 'zfp' keep",
        ),
        (BFloat16(), {"dtype": "float32"}, "field 'x': codec 'bfloat16' is for arrays; a number is compressed by its column"),
        (
            Float16(),
            {"dtype": "uint8", "shape": RGB, "codec": "image"},
            "codec 'float16' is for float32 and float64, found uint8",
        ),
    ],
)
def test_fields_that_a_codec_does_not_take(codec: ValueCodec, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        stored_field(Field.model_validate({"name": "x", **values}), codec)


def test_what_is_stored() -> None:
    kept = field("uint8", (None, None, 3), codec="image", nullable=True)
    stored = stored_field(kept, Jpeg(quality=80))
    assert stored.model_dump() == {
        **kept.model_dump(),
        "codec": {"name": "image", "configuration": {"format": "jpeg", "quality": 80, "subsampling": "420"}},
    }
    assert Field.model_validate_json(stored.model_dump_json()) == stored
    assert value_codec(stored) == Jpeg(quality=80)
    assert value_codec(kept) is None
    zfp = stored_field(field("float32", (3,)), Zfp(tolerance=0.5))
    assert zfp.codec is not None
    assert zfp.codec.model_dump() == {"name": "zfp", "configuration": {"tolerance": 0.5}}
    assert value_codec(zfp) == Zfp(tolerance=0.5)


def test_a_picture_that_a_value_does_not_make() -> None:
    stored = stored_field(field("uint8", (None, None, None)), Jpeg())
    with pytest.raises(EncodeError, match=r"field 'x': no jpeg of uint8 \(8, 8, 4\), expected uint8, grey or RGB$"):
        encode_value(stored, np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(EncodeError, match=r"field 'x': no jpeg of uint8 \(1, 70000, 3\), expected uint8, grey or RGB \(.+\)"):
        encode_value(stored, np.zeros((1, 70000, 3), np.uint8))
    with pytest.raises(EncodeError, match="field 'x': expected dtype uint8, found uint16"):
        encode_value(stored, np.zeros((8, 8, 3), np.uint16))
    with pytest.raises(SchemaError, match="field 'x': pictures are kept as they came; name a format to encode arrays"):
        encode_value(field("uint8", RGB, codec="image"), np.zeros(RGB, np.uint8))


def test_a_codec_by_its_name_or_with_parameters() -> None:
    assert CODECS.validate_python("png") == Png()
    assert CODECS.validate_python({"codec": "zfp", "tolerance": 0.25}) == Zfp(tolerance=0.25)


@pytest.mark.parametrize(
    "values, message",
    [
        ("gif", "Input tag 'gif' found using 'codec' does not match any of the expected tags: 'jpeg', 'webp', 'png', 'jpegxl'"),
        ({"codec": "jpeg", "quality": 0}, "greater than or equal to 1"),
        ({"codec": "webp", "quality": 101}, "less than or equal to 100"),
        ({"codec": "png", "level": 10}, "less than or equal to 9"),
        ({"codec": "jpegxl", "effort": 10}, "less than or equal to 9"),
        ({"codec": "jpegxl", "distance": 0}, "greater than or equal to 0.01"),
        ({"codec": "jpeg", "subsampling": "411"}, "Input should be '444', '422' or '420'"),
        ({"codec": "zfp", "tolerance": 0}, "greater than 0"),
        ({"codec": "zfp", "tolerance": float("nan")}, "less than or equal to 1"),
        ({"codec": "float16", "level": 1}, "Extra inputs are not permitted"),
    ],
)
def test_configurations_that_can_not_be(values: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CODECS.validate_python(values)


def test_a_stored_configuration_that_its_codec_does_not_have() -> None:
    wrong = field("float32", (3,), codec={"name": "zfp", "configuration": {"tolerance": -1}})
    with pytest.raises(
        SchemaError, match=r"field 'x': codec 'zfp' with {'tolerance': -1}: tolerance: Input should be greater than 0"
    ):
        encode_value(wrong, np.zeros(3, "f4"))
    unknown = field("uint8", RGB, codec={"name": "image", "configuration": {"format": "gif"}})
    with pytest.raises(SchemaError, match=r"field 'x': codec 'image' with {'format': 'gif'}: .*Input tag 'gif'"):
        encode_value(unknown, np.zeros(RGB, np.uint8))
