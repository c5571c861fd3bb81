"""Values come back from every codec within what it promises, and what it can't hold is refused with the reason."""

from __future__ import annotations

import contextlib
import io
import struct
from fractions import Fraction
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shardwright.codecs import (
    ValueCodec,
    decode_block,
    decode_value,
    encode_block,
    encode_value,
    is_lossless,
    stored_field,
    value_header,
)
from shardwright.codecs.options import BFloat16, Float16, Int8, Zfp
from shardwright.errors import DecodeError, EncodeError
from shardwright.schema import Field

FLOATS: tuple[type[Any], ...] = (Float16, BFloat16, Int8)


def make(codec: ValueCodec, dtype: str = "float32", shape: tuple[int | None, ...] = (3,), **values: Any) -> Field:
    return stored_field(Field(name="x", dtype=dtype, shape=shape, **values), codec)


def blocks(dtype: str, limit: float) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 5))
    limit = float(np.dtype(dtype).type(limit))
    values = st.floats(-limit, limit, width=32 if dtype == "float32" else 64)
    return hnp.arrays(dtype, shapes, elements=values)


DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
GOLDEN = [1.0, -0.5, 3.14159]


@pytest.mark.parametrize(
    "codec, expected",
    [
        (Float16(), "003c00b84842"),
        (BFloat16(), "803f00bf4940"),
        (Int8(), "{}28ec7f".format(struct.pack("<f", 0.024736932).hex())),
    ],
)
def test_stored_bytes(codec: ValueCodec, expected: str) -> None:
    field = make(codec)
    cells, bad = encode_block(field, np.array([GOLDEN], "f4"))
    assert (cells.tobytes().hex(), bad) == (expected, {})
    value = encode_value(field, np.array(GOLDEN, "f4"))
    assert value == value_header(field) + cells.tobytes()
    assert len(value) - len(value_header(field)) == field.stored_nbytes
    assert np.array_equal(decode_value(field, value), decode_block(field, cells)[0])


def test_float16_is_stored_as_numpy_saves_it() -> None:
    field = make(Float16(), "float64", (2, 2))
    values = np.array([[1, 2], [3, 1e-9]])
    buffer = io.BytesIO()
    np.save(buffer, values.astype("f2"))
    assert encode_value(field, values) == buffer.getvalue()


@DTYPES
@given(data=st.data())
def test_float16_is_numpys(dtype: str, data: Any) -> None:
    block = data.draw(blocks(dtype, 65504))
    field = make(Float16(), dtype, block.shape[1:])
    cells, bad = encode_block(field, block)
    decoded = decode_block(field, cells)
    assert decoded.dtype == dtype
    assert not bad
    assert np.array_equal(decoded, block.astype("f2"))
    assert (np.abs(decoded - block) <= np.maximum(np.abs(block) * 2.0**-11, 2.0**-25)).all()


@DTYPES
@given(data=st.data())
def test_bfloat16_is_the_nearest_and_even_between_two(dtype: str, data: Any) -> None:
    block = data.draw(blocks(dtype, 3.3e38))
    # Numbers on both sides of the middle between two results: the second rounding must not see the first.
    middle = (np.abs(block).astype("f4").view("<u4") & np.uint32(0xFFFF0000) | np.uint32(0x8000)).view("<f4").astype(dtype)
    block = np.concatenate([block, middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf, dtype=dtype)])
    field = make(BFloat16(), dtype, block.shape[1:])
    cells, bad = encode_block(field, block)
    assert not bad
    decoded = decode_block(field, cells)
    for value, found in zip(block.ravel().tolist(), decoded.ravel().tolist(), strict=True):
        assert Fraction(found) == _nearest_bfloat16(Fraction(value))


def _nearest_bfloat16(value: Fraction) -> Fraction:
    """By exact arithmetic: 8 significant bits, exponents from -126, ties to even."""
    if not value:
        return value
    exponent = -126
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    step = Fraction(2) ** (exponent - 7)
    return round(value / step) * step  # rounds ties to even


@DTYPES
@given(data=st.data())
def test_int8_is_within_half_a_step(dtype: str, data: Any) -> None:
    block = data.draw(blocks(dtype, 1e30))
    field = make(Int8(), dtype, block.shape[1:])
    cells, bad = encode_block(field, block)
    assert not bad
    decoded = decode_block(field, cells)
    scales = cells[:, :4].copy().view("<f4").astype("f8").reshape(-1, 1, 1)
    largest = np.abs(block).max(axis=(1, 2), keepdims=True, initial=0).astype("f8")
    assert decoded.dtype == dtype
    assert decoded.shape == block.shape
    assert (scales * 127 >= largest).all()
    assert (scales <= largest / 127 * (1 + 2**-22) + 2e-45).all()
    assert (np.abs(decoded.astype("f8") - block) <= scales * (0.5 + 127 * np.finfo(dtype).eps)).all()


def test_int8_of_zeros_and_of_the_smallest_numbers() -> None:
    field = make(Int8())
    block = np.array([[0, -0.0, 0], [1e-45, 0, -1e-45]], "f4")
    cells, bad = encode_block(field, block)
    assert (decode_block(field, cells) == block).all()
    assert not bad
    assert cells[0].tobytes() == bytes(7)


def test_what_is_not_a_number_stays() -> None:
    odd = np.array([[np.nan, np.inf, -np.inf]], "f4")
    payloads = np.array([[0x7F800001, 0xFF801234, 0xFFFFFFFF]], "<u4").view("<f4")  # NaNs whose upper bits alone are infinity
    assert encode_block(make(Int8()), payloads)[1] == {0: "NaN or infinity"}
    for codec in (Float16(), BFloat16()):
        field = make(codec)
        cells, bad = encode_block(field, odd)
        assert np.array_equal(decode_block(field, cells), odd, equal_nan=True)
        assert not bad
        cells, bad = encode_block(field, payloads)
        assert np.isnan(decode_block(field, cells)).all()
        assert not bad
        assert np.isnan(decode_value(field, encode_value(field, payloads[0]))).all()


@pytest.mark.parametrize(
    "codec, dtype, value, reason",
    [
        (Float16(), "float32", 65520.0, "65520.0 is too large for float16"),
        (Float16(), "float64", -1e300, "-1e+300 is too large for float16"),
        (BFloat16(), "float32", 3.4e38, "3.3999999521443642e+38 is too large for bfloat16"),
        (BFloat16(), "float64", 1e39, "1e+39 is too large for bfloat16"),
        (Int8(), "float64", 1e41, "1e+41 is too large for a float32 scale"),
        (Int8(), "float32", float(np.finfo("f4").max), "3.4028234663852886e+38 is too large for a float32 scale"),
        (Int8(), "float32", float("nan"), "NaN or infinity"),
        (Int8(), "float32", float("-inf"), "NaN or infinity"),
        (Zfp(), "float32", float("nan"), "NaN or infinity, which codec 'zfp' can't hold"),
        (Zfp(), "float64", float("inf"), "NaN or infinity, which codec 'zfp' can't hold"),
        (Zfp(), "float32", 1e9, r"ZFP came back off by [\d.]+, tolerance is 0.001: the numbers \(up to 1e\+09\) are too large"),
    ],
)
def test_what_a_codec_can_not_hold(codec: ValueCodec, dtype: str, value: float, reason: str) -> None:
    field = make(codec, dtype)
    block = np.array([[1, 2, 3], [1, value, 1 / 3], [0, 0, 0]], dtype)
    with pytest.raises(
        EncodeError, match=f"^field 'x': {reason.replace('+', chr(92) + '+') if codec.codec != 'zfp' else reason}"
    ):
        encode_value(field, block[1])
    if isinstance(codec, FLOATS):
        cells, bad = encode_block(field, block)
        assert bad == {1: reason}
        assert np.allclose(decode_block(field, cells)[[0, 2]], block[[0, 2]], rtol=0.02)


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 1), (3, 9), (2, 3, 4), (1, 1, 1, 1), (2, 5, 3, 2)])
@DTYPES
def test_zfp_keeps_its_bound_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(1).normal(size=shape).astype(dtype) * 100
    for declared in (shape, (None,) * len(shape)):
        for tolerance in (1e-2, 0.5, 1e3):
            field = make(Zfp(tolerance=tolerance), dtype, declared)
            data = encode_value(field, array)
            decoded = decode_value(field, data)
            assert (decoded.dtype, decoded.shape) == (array.dtype, shape)
            assert np.abs(decoded - array).max() <= tolerance
            assert data == encode_value(field, array)


@given(data=st.data())
def test_zfp_of_anything_is_within_the_bound_or_refused(data: Any) -> None:
    array = data.draw(hnp.arrays("f4", hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(-1e6, 1e6, width=32)))
    field = make(Zfp(tolerance=0.125), "float32", array.shape)
    if np.abs(array).max() > 1e4:  # from here on float32 may be too coarse
        with contextlib.suppress(EncodeError):
            assert np.abs(decode_value(field, encode_value(field, array)) - array).max() <= 0.125
    else:
        assert np.abs(decode_value(field, encode_value(field, array)) - array).max() <= 0.125


def test_zfp_of_arrays_without_elements() -> None:
    field = make(Zfp(), shape=(None, 3))
    assert encode_value(field, np.empty((0, 3), "f4")) == b""
    assert decode_value(field, b"").shape == (0, 3)
    field = make(Zfp(), shape=(None, None))
    with pytest.raises(EncodeError, match="an array without elements, of a shape that 'zfp' can't keep"):
        encode_value(field, np.empty((0, 3), "f4"))


def test_damaged_zfp() -> None:
    field, ragged = make(Zfp(), shape=(40, 40)), make(Zfp(), shape=(None, None))
    array = np.random.default_rng(1).normal(size=(40, 40)).astype("f4")
    data = encode_value(field, array)
    with pytest.raises(DecodeError, match=r"field 'x': expected shape \(40, 41\), found \(40, 40\)"):
        decode_value(make(Zfp(), shape=(40, 41)), data)
    with pytest.raises(DecodeError, match="expected dtype float64, found float32"):
        decode_value(make(Zfp(), "float64", (40, 40)), data)
    with pytest.raises(DecodeError, match="not a ZFP stream of floats in fixed-accuracy mode"):
        decode_value(field, b"no such thing as a stream")
    with pytest.raises(DecodeError, match="not a ZFP stream"):
        decode_value(field, data[:9])
    with pytest.raises(DecodeError, match="no bytes where a ZFP stream was expected"):
        decode_value(field, b"")
    rate = bytes(imagecodecs.zfp_encode(array, 8, mode="r", header=True))
    with pytest.raises(DecodeError, match="not a ZFP stream of floats in fixed-accuracy mode"):
        decode_value(field, rate)
    huge = data[:4] + (int.from_bytes(data[4:12], "little") | 0xFFFFFFFFFFFF << 4).to_bytes(8, "little") + data[12:]
    with pytest.raises(DecodeError, match=r"a ZFP stream of shape \(16777216, 16777216\) cut short to \d+ bytes"):
        decode_value(ragged, huge)
    for cut in range(30, len(data), 97):  # whatever a cut or a flipped bit gives, no memory beyond it is read
        decode_value(field, data[:cut])
        flipped = bytearray(data)
        flipped[cut] ^= 0x5A
        decode_value(field, bytes(flipped))


@pytest.mark.parametrize("codec", [Float16(), BFloat16(), Int8()])
def test_other_widths_shapes_and_dtypes_are_refused(codec: ValueCodec) -> None:
    field = make(codec)
    for array, message in [
        (np.zeros(4, "f4"), r"expected shape \(3,\), found \(4,\)"),
        (np.zeros(3), "expected dtype float32"),
    ]:
        with pytest.raises(EncodeError, match=f"field 'x': {message}"):
            encode_value(field, array)
        with pytest.raises(EncodeError, match=r"field 'x': expected float32 of shape \(n, \*\(3,\)\), found"):
            encode_block(field, array[None])
    with pytest.raises(
        DecodeError, match=r"field 'x': (expected 6 bytes of codec 'bfloat16' for|expected 7 bytes of codec|not a num)"
    ):
        decode_value(field, b"12345")
    if isinstance(codec, Float16):
        with pytest.raises(DecodeError, match="expected dtype float16, found float32"):
            decode_value(field, encode_value(Field(name="x", dtype="float32", shape=(3,)), np.zeros(3, "f4")))


def test_raw_cells_of_another_width() -> None:
    with pytest.raises(DecodeError, match=r"field 'x': expected 6 bytes of codec 'raw' for int16 \(3,\), found 5"):
        decode_value(Field.model_validate({"name": "x", "dtype": "int16", "shape": (3,), "codec": "raw"}), b"12345")


def test_ragged_float16_keeps_each_shape() -> None:
    field = make(Float16(), "float64", (None, 2))
    for rows in (0, 1, 5):
        array = np.arange(rows * 2.0).reshape(rows, 2)
        found = decode_value(field, encode_value(field, array))
        assert found.dtype == "float64"
        assert np.array_equal(found, array)


@pytest.mark.parametrize("codec", [None, Float16(), BFloat16(), Int8()])
def test_blocks_need_not_be_contiguous(codec: ValueCodec | None) -> None:
    plain = Field(name="x", dtype="float32", shape=(2, 2))
    field = stored_field(plain, codec) if codec else plain
    block = np.arange(48, dtype="f4").reshape(6, 4, 2)[::2, ::2]
    cells, _ = encode_block(field, block)
    wide = np.zeros((3, field.stored_nbytes + 5), np.uint8)
    wide[:, 5:] = cells
    assert np.array_equal(decode_block(field, wide[:, 5:]), decode_block(field, cells))
    assert np.allclose(decode_block(field, cells), block, atol=0.2)
    assert is_lossless(field) == (codec is None)
