"""Values as bytes that sort as the values do, whatever compares them: `memcmp`, NumPy, a file system.

Integers are big-endian, the sign bit of signed ones flipped; floats become float64 (exactly), all bits of negative ones
flipped and the sign bit of the others (-0.0 counts as 0.0); booleans are one byte; timestamps are microseconds; strings are
UTF-8, which sorts as code points do, filled up with zeros to `TEXT_BYTES`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.schema import FLOATS, Field

TEXT_BYTES = 64
"""The longest string that can be put in order."""


def can_sort(field: Field) -> bool:
    """Whether values of a field have an order: numbers, booleans, timestamps and strings do."""
    return not field.shape and field.dtype != "bytes"


def sortable(field: Field, array: pa.Array) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """The values of a column in its sample type, uint8 of shape (n, width), and the rows without a place, with the reason."""
    bad = dict.fromkeys(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist(), "null, which has no place")
    if field.dtype == "string":
        return _texts(array, bad)
    if field.dtype == "timestamp":
        array = array.cast(pa.int64())
    values = array.fill_null(False if field.dtype == "bool" else 0).to_numpy(zero_copy_only=False)
    if field.dtype in FLOATS:
        values = values.astype(np.float64) + 0.0  # of the two zeros one
        bad |= dict.fromkeys(np.flatnonzero(np.isnan(values)).tolist(), "NaN, which has no place")
        bits = values.view(np.uint64)
        bits = np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(1 << 63))
    else:
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        bits = values.view(unsigned)
        if values.dtype.kind == "i":
            bits = bits ^ unsigned.type(1 << (8 * unsigned.itemsize - 1))
    big = np.ascontiguousarray(bits.astype(bits.dtype.newbyteorder(">")))
    return big.view(np.uint8).reshape(len(array), bits.dtype.itemsize), bad


def _texts(array: pa.Array, bad: dict[int, str]) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    out = np.zeros((len(array), TEXT_BYTES), np.uint8)
    lengths = pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    for row, value in enumerate(array.cast(pa.binary()).to_pylist()):
        if lengths[row] > TEXT_BYTES:
            bad[row] = f"a string of {lengths[row]} bytes; at most {TEXT_BYTES} can be put in order"
        elif value and b"\0" in value:
            bad[row] = "a string with a zero byte, which can't be put in order"
        elif value:
            out[row, : len(value)] = np.frombuffer(value, np.uint8)
    return out, bad
