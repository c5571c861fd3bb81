"""How values become bytes and come back: `numpy.save` cells, narrower floats, ZFP, encoded pictures. Nothing is ever unpickled.

`options` has what a configuration says, `values` what uses it: `encode_value` and `decode_value` for one value,
`encode_block` and `decode_block` for many of one width.
"""

from __future__ import annotations

from shardwright.codecs.image import decode_image, encode_image, probe_image
from shardwright.codecs.npy import decode_npy, encode_npy, npy_header, read_npy_header
from shardwright.codecs.options import ValueCodec, is_lossless, stored_field, value_codec
from shardwright.codecs.values import (
    decode_block,
    decode_value,
    decode_value_into,
    encode_block,
    encode_value,
    value_header,
)

__all__ = [
    "ValueCodec",
    "decode_block",
    "decode_image",
    "decode_npy",
    "decode_value",
    "decode_value_into",
    "encode_block",
    "encode_image",
    "encode_npy",
    "encode_value",
    "is_lossless",
    "npy_header",
    "probe_image",
    "read_npy_header",
    "stored_field",
    "value_codec",
    "value_header",
]
