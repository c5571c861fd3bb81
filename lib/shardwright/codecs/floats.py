"""Float arrays stored narrower, whole blocks at a time: float16, bfloat16, and int8 with a scale for each value.

A block holds values of shape (n, elements) in float32 or float64; its cells are uint8 of shape (n, width). The same block
gives the same cells on every machine: only IEEE operations that are rounded alike everywhere are used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.codecs.arrays import NON_FINITE, Array, Bad

Cells = npt.NDArray[np.uint8]

_INT8_MAX = 127


def encode_float16(block: Array) -> tuple[Cells, Bad]:
    """Each number rounded to the nearest float16, ties to even. NaN and infinity stay; a number beyond 65504 is bad."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        half = block.astype("<f2")
    return _cells(half), _overflows(block, np.isinf(half), "float16")


def decode_float16(cells: Cells, dtype: np.dtype[Any]) -> Array:
    """The numbers in `dtype`, exactly."""
    return widen(cells.view("<f2"), dtype)


def encode_bfloat16(block: Array) -> tuple[Cells, Bad]:
    """The upper 16 bits of each number as float32, rounded to nearest, ties to even. NaN and infinity stay; overflow is bad."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = block.astype("<f4")
        bits = single.view("<u4")
        if block.dtype.itemsize > 4:
            # What was rounded to the middle between two results came from one side of it: step back there.
            middle = (bits & 0xFFFF) == 0x8000
            beyond, short = np.abs(block) > np.abs(single), np.abs(block) < np.abs(single)
            bits = bits + (middle & beyond).astype("<u4") - (middle & short).astype("<u4")
    upper = ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype("<u2")
    nan = np.isnan(block)
    if nan.any():  # keeps its sign and the upper bits of its payload; the quiet bit keeps it from becoming infinity
        upper[nan] = (bits[nan] >> 16) | 0x40
    return _cells(upper), _overflows(block, (upper & 0x7FFF) == 0x7F80, "bfloat16")


def decode_bfloat16(cells: Cells, dtype: np.dtype[Any]) -> Array:
    """The numbers in `dtype`, exactly."""
    return widen((cells.view("<u2").astype("<u4") << 16).view("<f4"), dtype)


def encode_int8(block: Array) -> tuple[Cells, Bad]:
    """Each value as a float32 scale, then x / scale rounded to the nearest integer, ties to even, in [-127, 127].

    The scale is max |x| / 127, rounded up, so that no element is off by more than half of it (and by the rounding of the
    product in the field's dtype). Values of zeros alone have scale 0. NaN and infinity are bad, and so is an element so
    large that scale or product would be infinite.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        largest: Array = np.abs(block).max(axis=1).astype("<f8")  # NaN where there is one
        scale = (largest / _INT8_MAX).astype("<f4")
        scale = np.where(scale.astype("<f8") * _INT8_MAX < largest, np.nextafter(scale, np.float32(np.inf)), scale)
        fits: npt.NDArray[np.bool_] = np.isfinite(np.multiply(scale, _INT8_MAX, dtype=block.dtype))
        quotients = block / np.where(fits & (scale > 0), scale, 1).astype("<f8")[:, None]
    np.rint(quotients, out=quotients)
    quotients[~fits] = 0
    rows = np.empty(len(block), _int8_dtype(block.shape[1]))
    rows["scale"], rows["data"] = scale, quotients
    return _cells(rows[:, None]), {
        row: f"{largest[row].item()} is too large for a float32 scale" if np.isfinite(largest[row]) else NON_FINITE
        for row in np.flatnonzero(~fits).tolist()
    }


def decode_int8(cells: Cells, dtype: np.dtype[Any]) -> Array:
    """Scale times integer, multiplied in `dtype`."""
    rows = cells.view(_int8_dtype(cells.shape[1] - 4)).reshape(len(cells))
    with np.errstate(over="ignore", invalid="ignore"):  # bytes that nobody encoded
        out: Array = np.multiply(rows["data"], rows["scale"].astype(dtype)[:, None], dtype=dtype)
    return out


def widen(values: Array, dtype: np.dtype[Any]) -> Array:
    """The same floats in `dtype`, which holds them all."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return values.astype(dtype, copy=False)


def _int8_dtype(elements: int) -> np.dtype[Any]:
    return np.dtype([("scale", "<f4"), ("data", "i1", (elements,))])


def _cells(values: Array) -> Cells:
    return np.ascontiguousarray(values).view(np.uint8)


def _overflows(block: Array, infinite: npt.NDArray[np.bool_], name: str) -> Bad:
    lost = infinite & np.isfinite(block)
    rows = np.flatnonzero(lost.any(axis=1)).tolist()
    return {row: f"{block[row][lost[row]][0].item()} is too large for {name}" for row in rows}
