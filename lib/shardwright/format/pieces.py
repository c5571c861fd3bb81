"""Reading as many bytes as a file says that there are."""

from __future__ import annotations

from typing import BinaryIO

_PIECE = 16 * 2**20
"""Bytes read at once: a length that lies must not reserve memory."""


def read_exactly(stream: BinaryIO, length: int) -> bytes:
    """`length` bytes, or fewer at the end of the stream."""
    if length <= _PIECE:
        return stream.read(length)
    pieces = []
    while length and (piece := stream.read(min(length, _PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
