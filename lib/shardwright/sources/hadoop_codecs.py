"""What Hadoop's compression codecs write, decompressed.

Snappy and LZ4 stand in Hadoop's own frames (org.apache.hadoop.io.compress.BlockCompressorStream): the bytes of a block before
compression, then chunks, each with its compressed size in front, until that many bytes are there; sizes are big-endian.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable

import pyarrow as pa


def snappy_size(data: bytes) -> int:
    """The bytes that a raw Snappy block holds: it begins with that number."""
    size = 0
    for position, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            break
    return size


def lz4_size(data: bytes) -> int:
    """The bytes that a raw LZ4 block holds: the literals and copies of its sequences added up."""
    at = size = 0
    while at < len(data):
        token = data[at]
        literals, at = _lz4_length(data, at + 1, token >> 4)
        size += literals
        at += literals
        if at < len(data):  # the last sequence has literals alone
            copied, at = _lz4_length(data, at + 2, token & 15)
            size += copied + 4
    return size


def zstandard(data: bytes) -> bytes:
    """What Zstandard frames hold."""
    out: bytes = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    return out


def _lz4_length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    length = nibble
    while nibble == 15:
        if at >= len(data):
            raise ValueError("an LZ4 block cut short")
        length += data[at]
        at += 1
        if data[at - 1] != 255:
            break
    return length, at


def _framed(codec: str, size_of: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def decompress(data: bytes) -> bytes:
        out = []
        at = missing = 0
        while at < len(data) or missing:
            if not missing:
                missing, at = _size(data, at)
                continue
            length, at = _size(data, at)
            chunk = data[at : at + length]
            size = size_of(chunk)
            if len(chunk) < length or not 0 < size <= missing:
                raise ValueError(f"a {codec} chunk of {len(chunk)} bytes that should have {length}, with {size} of {missing}")
            out.append(pa.Codec(codec).decompress(chunk, size, asbytes=True))
            at, missing = at + length, missing - size
        return b"".join(out)

    return decompress


def _size(data: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(data):
        raise ValueError("compressed data cut short")
    return int.from_bytes(data[at : at + 4], "big"), at + 4


_PACKAGE = "org.apache.hadoop.io.compress."
CODECS: dict[str, Callable[[bytes], bytes]] = {
    f"{_PACKAGE}DefaultCodec": zlib.decompress,
    f"{_PACKAGE}DeflateCodec": zlib.decompress,
    f"{_PACKAGE}GzipCodec": gzip.decompress,
    f"{_PACKAGE}BZip2Codec": bz2.decompress,
    f"{_PACKAGE}SnappyCodec": _framed("snappy", snappy_size),
    f"{_PACKAGE}Lz4Codec": _framed("lz4_raw", lz4_size),
    f"{_PACKAGE}ZStandardCodec": zstandard,
}
"""By the names of their Java classes."""
