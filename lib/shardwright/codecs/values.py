"""Values of array fields as they are stored, one by one and whole blocks at a time."""

from __future__ import annotations

import math

import numpy as np

from shardwright.codecs import floats
from shardwright.codecs.arrays import Array, Bad
from shardwright.codecs.image import decode_image, decode_image_into, encode_image
from shardwright.codecs.npy import check_array, decode_npy, encode_npy, npy_header, show_shape
from shardwright.codecs.options import value_codec
from shardwright.codecs.zfp import decode_zfp, encode_zfp
from shardwright.errors import DecodeError, EncodeError, SchemaError
from shardwright.schema import Field

_ENCODE = {"float16": floats.encode_float16, "bfloat16": floats.encode_bfloat16, "int8": floats.encode_int8}
_DECODE = {"float16": floats.decode_float16, "bfloat16": floats.decode_bfloat16, "int8": floats.decode_int8}


def value_header(field: Field) -> bytes:
    """What precedes the data in each stored value of a fixed array: the same for all of a field, or nothing."""
    if _name(field) not in ("npy", "float16"):
        return b""
    return npy_header("<f2" if _name(field) == "float16" else field.numpy_dtype.str, _sizes(field))


def encode_block(field: Field, block: Array) -> tuple[floats.Cells, Bad]:
    """The stored bytes without header of a fixed array's values, shape (n, *field.shape): uint8 of shape (n, stored_nbytes).

    And the rows that the codec can't hold, each with the reason; their bytes are any. Raises EncodeError for a block of
    another dtype or shape.
    """
    if block.dtype != field.numpy_dtype or block.shape[1:] != _sizes(field):
        raise EncodeError(
            f"field {field.name!r}: expected {field.dtype} of shape (n, *{field.shape}), found {block.dtype} {block.shape}"
        )
    flat = np.ascontiguousarray(block).reshape(len(block), math.prod(block.shape[1:]))
    encode = _ENCODE.get(_name(field))
    return encode(flat) if encode else (flat.view(np.uint8), {})


def decode_block(field: Field, cells: floats.Cells) -> Array:
    """The values whose stored bytes without header are `cells`, uint8 of shape (n, stored_nbytes), each row contiguous.

    Of the field's dtype and shape (n, *field.shape); for ``npy`` and ``raw`` a view.
    """
    decode = _DECODE.get(_name(field))
    values: Array = decode(cells, field.numpy_dtype) if decode else cells.view(field.numpy_dtype)
    return values.reshape(len(cells), *_sizes(field))


def encode_value(field: Field, array: Array) -> bytes:
    """One stored value, header included, of `array`, which has the field's dtype and shape.

    Raises EncodeError for a value that the codec can't hold, SchemaError for a field of pictures that names no format.
    """
    name = _name(field)
    try:
        check_array(field, array)
    except DecodeError as error:
        raise EncodeError(str(error)) from error
    if name == "npy":
        return encode_npy(array)
    if name == "image":
        options = value_codec(field)
        if options is None:
            raise SchemaError(f"field {field.name!r}: pictures are kept as they came; name a format to encode arrays")
        return encode_image(field, array, options)
    if name == "zfp":
        return encode_zfp(field, array, value_codec(field).tolerance)
    if name == "raw":
        return np.ascontiguousarray(array, field.numpy_dtype).tobytes()
    cells, bad = _ENCODE[name](np.ascontiguousarray(array, field.numpy_dtype).reshape(1, -1))
    if bad:
        raise EncodeError(f"field {field.name!r}: {bad[0]}")
    header = npy_header("<f2", array.shape) if name == "float16" else b""
    return header + cells.tobytes()


def decode_value(field: Field, data: bytes | memoryview) -> Array:
    """The array that one stored binary value of an array `field` holds, of the field's dtype and shape.

    Raises DecodeError when the bytes are no such value, or have another dtype or shape.
    """
    name = _name(field)
    if name == "image":
        return decode_image(field, data)
    if name == "zfp":
        return decode_zfp(field, data)
    if name == "npy":
        return decode_npy(field, data)
    if name == "float16":
        return floats.widen(decode_npy(field, data, "float16"), field.numpy_dtype)
    if len(data) != field.stored_nbytes:
        raise DecodeError(
            f"field {field.name!r}: expected {field.stored_nbytes} bytes of codec {name!r} for {field.dtype} "
            f"{show_shape(field.shape)}, found {len(data)}"
        )
    value: Array = decode_block(field, np.frombuffer(data, np.uint8)[None])[0]
    return value


def decode_value_into(field: Field, data: bytes | memoryview, out: Array) -> None:
    """`decode_value` into `out`, of the field's dtype and shape, in C order. Raises as it does."""
    if _name(field) == "image":
        decode_image_into(field, data, out)
    else:
        out[...] = decode_value(field, data)


def _name(field: Field) -> str:
    assert field.codec is not None, field.name
    return field.codec.name


def _sizes(field: Field) -> tuple[int, ...]:
    return tuple(size or 0 for size in field.shape)
