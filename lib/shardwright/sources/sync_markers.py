"""Cutting files that have sync markers: random bytes of 16, the same in all of a file, behind which a reader can begin.

A piece is a stretch of `PIECE_BYTES` of the file, and has what follows the markers that begin in it, up to the next marker. So
pieces are known without a look into the file, and every byte belongs to one.
"""

from __future__ import annotations

from typing import BinaryIO

PIECE_BYTES = 4 * 2**20
MARKER_BYTES = 16
_STEP = 2**20


def piece_sizes(size: int) -> tuple[int, ...]:
    """The bytes of each piece of a file of `size` bytes."""
    return tuple(min(PIECE_BYTES, size - start) for start in range(0, size, PIECE_BYTES))


def find_marker(stream: BinaryIO, start: int, stop: int, marker: bytes) -> int | None:
    """The first offset in [start, stop) at which `marker` begins, with the stream put behind it; None where there is none."""
    stream.seek(start)
    tail = b""
    at = start
    while at - len(tail) < stop and (data := stream.read(_STEP)):
        window = tail + data
        found = window.find(marker)
        if found >= 0:
            offset = at - len(tail) + found
            stream.seek(offset + len(marker))
            return offset if offset < stop else None
        at += len(data)
        tail = window[1 - len(marker) :]
    return None
