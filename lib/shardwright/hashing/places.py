"""The place key: bytes that sort as samples lie in their split, and that are different for every sample.

Layout: what orders, then the sample key (16 bytes), then the number of its occurrence (4 bytes, big-endian). Where samples are
shuffled, the 8 bytes of H(seed, 'place', key, occurrence), big-endian, order; where the order of fields is kept, their values
as `hashing.sortable` has them. All place keys of a dataset are of one width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.hashing.keyed import keyed_hash
from shardwright.hashing.sample_key import KEY_BYTES

Matrix = npt.NDArray[np.uint8]

_OCCURRENCE_BYTES = 4
_TAIL_BYTES = KEY_BYTES + _OCCURRENCE_BYTES
MAX_BYTES = 300
"""No place key is longer."""


def place_keys(seed: int, keys: Matrix, occurrence: npt.NDArray[np.uint32] | None = None) -> Matrix:
    """The place keys of shuffled samples, uint8 of shape (n, 28): `keys` is uint8 (n, 16), `occurrence` 0 where not given."""
    hashed = keyed_hash(seed, "place", keys, occurrence).astype(">u8").view(np.uint8).reshape(-1, 8)
    return ordered_place_keys(hashed, keys, occurrence)


def ordered_place_keys(order: Matrix, keys: Matrix, occurrence: npt.NDArray[np.uint32] | None = None) -> Matrix:
    """The place keys of samples that `order`, uint8 of shape (n, w), puts in order: uint8 of shape (n, w + 20)."""
    width = order.shape[1]
    out = np.zeros((len(keys), width + _TAIL_BYTES), np.uint8)
    out[:, :width] = order
    out[:, width : width + KEY_BYTES] = keys
    if occurrence is not None:
        out[:, -_OCCURRENCE_BYTES:] = occurrence.astype(">u4").view(np.uint8).reshape(-1, _OCCURRENCE_BYTES)
    return out


def order_of(places: Matrix) -> Matrix:
    """What orders, in each place key."""
    return places[:, :-_TAIL_BYTES]


def keys_of(places: Matrix) -> Matrix:
    """The sample key in each place key: uint8 of shape (n, 16)."""
    return places[:, -_TAIL_BYTES:-_OCCURRENCE_BYTES]


def as_matrix(column: pa.Array) -> Matrix:
    """A binary column of values of one width, without nulls, as uint8 of shape (n, width), without a copy."""
    if not len(column):
        return np.empty((0, _TAIL_BYTES), np.uint8)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(len(column), -1)


def as_column(rows: Matrix) -> pa.Array:
    """uint8 of shape (n, width) as a binary column."""
    width = rows.shape[1]
    buffers = [None, pa.py_buffer(np.ascontiguousarray(rows))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), buffers).cast(pa.binary())


def as_sortable(rows: Matrix) -> npt.NDArray[np.bytes_]:
    """Rows of bytes as fixed-width byte strings, which NumPy compares as `memcmp` does."""
    return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel()
