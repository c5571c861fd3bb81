"""Pieces of a file with sync markers: each marker is found by the one piece that it begins in."""

from __future__ import annotations

import io

from hypothesis import example, given
from hypothesis import strategies as st

from shardwright.sources import sync_markers

MARKER = b"abcdefghijklmnop"


@given(
    st.lists(st.sampled_from([MARKER, MARKER[:7], MARKER[5:], b"-", b"-" * 30]), max_size=12),
    st.integers(1, 40),
    st.integers(1, 40),
)
@example([b"-" * 30, MARKER], 16, 32)  # a marker that begins in the last bytes of a piece, and of what is read at once
def test_every_marker_belongs_to_one_piece(parts: list[bytes], step: int, piece: int) -> None:
    data = b"".join(parts)
    before, sync_markers._STEP = sync_markers._STEP, step
    try:
        for start in range(0, len(data), piece):
            stream = io.BytesIO(data)
            found = sync_markers.find_marker(stream, start, start + piece, MARKER)
            at = data.find(MARKER, start)
            assert found == (at if 0 <= at < start + piece else None)
            assert found is None or stream.tell() == found + len(MARKER)
    finally:
        sync_markers._STEP = before


def test_pieces_are_all_of_a_file() -> None:
    for size in (0, 1, sync_markers.PIECE_BYTES, sync_markers.PIECE_BYTES + 1):
        assert sum(sync_markers.piece_sizes(size)) == size
        assert 0 not in sync_markers.piece_sizes(size)
