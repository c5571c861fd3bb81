"""x' = (x - mean) / std per channel, in one pass over the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import SchemaError

Floats = npt.NDArray[np.floating[Any]]


class Normalise:
    """(x - mean) / std as `dtype`, with one `mean` and `std`, or one per index of the values' last axis.

    A channel with std 0 is constant: there std counts as 1, so it becomes 0. Raises SchemaError when `mean` and `std` differ in
    length.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: str = "float32") -> None:
        if len(mean) != len(std) or not mean:
            raise SchemaError(f"expected one mean and one std per channel, found {len(mean)} and {len(std)}")
        self._dtype = np.dtype(dtype)
        self._mean = np.asarray(mean, np.float64)
        deviation = np.asarray(std, np.float64)
        self._scale = 1 / np.where(deviation == 0, 1, deviation)

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The results in the same shape; an object array (of several shapes, None for a missing value) gives such an array.

        What outgrows the dtype becomes infinite. Raises SchemaError when the last axis is not as long as there are channels.
        """
        if values.dtype != object:
            return self._apply(values)
        out = np.empty_like(values)
        for row, value in enumerate(values):
            out[row] = None if value is None else self._apply(value)
        return out

    def _apply(self, values: npt.NDArray[Any]) -> Floats:
        channels = len(self._mean)
        if channels > 1 and values.shape[-1:] != (channels,):
            raise SchemaError(f"expected {channels} channels in the last axis, found values of shape {values.shape}")
        # float32 keeps 24 bits: fine for 8-bit values, whose mean is small; anything else could lose digits in x - mean
        small = values.dtype.kind in "biu" and values.dtype.itemsize == 1 and self._dtype.itemsize <= 4
        work = np.dtype(np.float32 if small else np.float64)
        if channels == 1:
            out = values.astype(work)
            mean, scale = self._mean.astype(work)[0], self._scale.astype(work)[0]
        else:
            # one row of constants as long as a whole sample: broadcasting along a last axis of 3 is seven times slower
            out = values.astype(work, order="C").reshape(max(len(values), 1), -1)
            repeat = out.shape[1] // channels
            mean, scale = np.tile(self._mean.astype(work), repeat), np.tile(self._scale.astype(work), repeat)
        out -= mean
        out *= scale
        with np.errstate(over="ignore"):
            return out.astype(self._dtype, copy=False).reshape(values.shape)
