"""The sample key: 128 bits that identify a sample whatever the partitioning.

XXH3-128 (big-endian digest, as `xxhash` gives it) of canonical bytes. A sample's canonical bytes are its key fields in schema
order, each as::

    null flag   1 byte: 0 = null (nothing follows), 1 = a value
    dtype tag   1 byte length, then ASCII: NumPy's `dtype.str` little-endian ("|u1", "<f4", "<M8[us]"), "str" or "bytes"
    shape       1 byte number of dimensions, then each as 8 bytes little-endian
    value       8 bytes length little-endian, then the value: C order, little-endian; strings as UTF-8

They depend on values alone, not on Arrow's buffers, offsets or chunks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

KEY_BYTES = 16

LONG_VALUE = 2048
"""From this many bytes on, hashing in pieces costs less than copying."""

_NULL = b"\x00"


class KeyColumn:
    """The values of one key field in a batch, all with dtype tag `tag`.

    Either `matrix`, uint8 of shape (n, width), holds values that all have shape `shape`, or `values` holds the bytes of each
    (None for a null); these have `shape` too, or the one in `shapes`.
    """

    def __init__(
        self,
        *,
        matrix: npt.NDArray[np.uint8] | None = None,
        values: Sequence[bytes | None] = (),
        tag: str,
        shape: tuple[int, ...] = (),
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        self.matrix = matrix
        self._values = values
        self._tag = tag
        self._shape = shape
        self._shapes = shapes

    def canonical_matrix(self) -> npt.NDArray[np.uint8]:
        """Canonical bytes as one row a sample, of a column that has a matrix."""
        assert self.matrix is not None
        head = self._head(self.matrix)
        out = np.empty((len(self.matrix), len(head) + self.matrix.shape[1]), np.uint8)
        out[:, : len(head)] = np.frombuffer(head, np.uint8)
        out[:, len(head) :] = self.matrix
        return out

    def pieces(self) -> list[Sequence[bytes]]:
        """Canonical bytes of each sample in pieces, so that long values need not be copied behind their head.

        A piece may be a row of a matrix: all that hashing wants is its buffer.
        """
        assert self.matrix is not None
        if self.matrix.shape[1] < LONG_VALUE:
            return [cast(Sequence[bytes], self.canonical_matrix())]
        return [[self._head(self.matrix)] * len(self.matrix), cast(Sequence[bytes], self.matrix)]

    def _head(self, matrix: npt.NDArray[np.uint8]) -> bytes:
        return _prefix(self._tag, self._shape) + struct.pack("<Q", matrix.shape[1])

    def canonical(self) -> list[bytes]:
        """Canonical bytes of each sample."""
        if self.matrix is not None:
            return [row.tobytes() for row in self.canonical_matrix()]
        shapes = self._shapes or [self._shape] * len(self._values)
        return [
            _NULL if value is None else _prefix(self._tag, shape) + struct.pack("<Q", len(value)) + value
            for value, shape in zip(self._values, shapes, strict=True)
        ]


def _prefix(tag: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(struct.pack("<Q", size) for size in shape)
    return b"\x01" + bytes([len(tag)]) + tag.encode("ascii") + bytes([len(shape)]) + dims


def key_column(array: pa.Array, shape: tuple[int, ...] = (), dtype: str | None = None) -> KeyColumn:
    """The canonical form of an Arrow column as read.

    A fixed-size binary column is an array of `shape` and `dtype` in C order; a list of numbers is an array of one dimension, of
    more where fixed-size lists are in it; numbers, booleans, timestamps, strings and binary (pictures and `numpy.save` cells
    too) stand for themselves. Raises TypeError for another type.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return KeyColumn(values=[None] * len(array), tag="bytes")
    if pa.types.is_fixed_size_binary(kind) and dtype is not None:
        tag = np.dtype(dtype).newbyteorder("<").str
        if array.null_count:
            return KeyColumn(values=array.to_pylist(), tag=tag, shape=shape)
        return KeyColumn(matrix=fixed_bytes(array), tag=tag, shape=shape)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return KeyColumn(values=array.cast(pa.large_binary()).to_pylist(), tag="str")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return KeyColumn(values=array.to_pylist(), tag="bytes")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_column(array)
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        tag, numbers = "<M8[us]", array.fill_null(0).to_numpy(zero_copy_only=False)
    elif pa.types.is_boolean(kind):
        tag, numbers = "|b1", array.fill_null(False).to_numpy(zero_copy_only=False)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
        numbers = np.ascontiguousarray(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False))
        tag = numbers.dtype.str
    else:
        raise TypeError(f"a {kind} column can't be part of a sample key")
    matrix = np.ascontiguousarray(numbers).view(np.uint8).reshape(len(array), numbers.dtype.itemsize)
    if not array.null_count:
        return KeyColumn(matrix=matrix, tag=tag)
    valid = array.is_valid().to_pylist()
    return KeyColumn(values=[row.tobytes() if ok else None for row, ok in zip(matrix, valid, strict=True)], tag=tag)


def _list_column(array: pa.Array) -> KeyColumn:
    leaf, inner = array.type.value_type, list[int]()
    while pa.types.is_fixed_size_list(leaf):
        inner.append(leaf.list_size)
        leaf = leaf.value_type
    if not (pa.types.is_integer(leaf) or pa.types.is_floating(leaf) or pa.types.is_boolean(leaf)):
        raise TypeError(f"a {array.type} column can't be part of a sample key")
    dtype = np.dtype(leaf.to_pandas_dtype()).newbyteorder("<")
    rows = [value.values for value in array]
    shapes = [(0 if row is None else len(row), *inner) for row in rows]
    for _ in inner:
        rows = [None if row is None else row.flatten() for row in rows]
    return KeyColumn(
        values=[None if row is None else _elements(row).astype(dtype, copy=False).tobytes() for row in rows],
        tag=dtype.str,
        shapes=shapes,
    )


def _elements(array: pa.Array) -> npt.NDArray[np.generic]:
    """Numbers, with 0 where there is a null: such samples are rejected later, and their keys must not vary till then."""
    missing = False if pa.types.is_boolean(array.type) else 0
    elements: npt.NDArray[np.generic] = array.fill_null(missing).to_numpy(zero_copy_only=False)
    return elements


def fixed_bytes(array: pa.Array) -> npt.NDArray[np.uint8]:
    """A fixed-size binary column without nulls as uint8 of shape (n, width), without a copy."""
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.empty(0, np.uint8)
    return data[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def sample_keys(columns: Sequence[KeyColumn], samples: int) -> npt.NDArray[np.uint8]:
    """XXH3-128 over the canonical bytes of `columns`, in order: uint8 of shape (samples, 16)."""
    digest = xxhash.xxh3_128_digest
    matrices = [column.matrix for column in columns if column.matrix is not None]
    if not matrices or len(matrices) < len(columns):
        lists = [column.canonical() for column in columns]
        return _digests(digest(b"".join(parts)) for parts in zip(*lists, strict=True)) if samples else _digests(())
    if max(matrix.shape[1] for matrix in matrices) >= LONG_VALUE:
        pieces = [piece for column in columns for piece in column.pieces()]
        return _digests(_stream(row) for row in zip(*pieces, strict=True))
    rows = np.hstack([column.canonical_matrix() for column in columns])
    return _digests(digest(row) for row in rows)


def _stream(pieces: Iterable[bytes]) -> bytes:
    state = xxhash.xxh3_128()
    for piece in pieces:
        state.update(piece)
    return state.digest()


def path_keys(paths: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Keys of samples that are one file each, by '/'-separated path relative to the input's root."""
    column = KeyColumn(values=[path.encode("utf-8", "surrogateescape") for path in paths], tag="path")
    return sample_keys([column], len(paths))


def _digests(digests: object) -> npt.NDArray[np.uint8]:
    joined = b"".join(digests)  # type: ignore[arg-type]
    return np.frombuffer(joined, np.uint8).reshape(-1, KEY_BYTES)
