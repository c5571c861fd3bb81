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
        self._known: tuple[Floats, Floats] = self._mean, self._scale
        """Both as long as a row of the latest values, which are mostly those of the next."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the results."""
        return self._dtype

    def into(self, values: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """`self(values)` into `out`, of the same shape, of `dtype`, in C order: few rows at a time stay in a core's cache.

        Raises SchemaError as a call does.
        """
        if not self._small(values) or self._dtype != np.float32:
            out[...] = self._apply(values)
            return
        rows, mean, scale = self._rows(values)
        into = out.reshape(rows.shape)
        np.subtract(rows, mean, out=into)
        into *= scale

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
        rows, mean, scale = self._rows(values)
        out = rows.astype(mean.dtype, order="C")
        out -= mean
        out *= scale
        with np.errstate(over="ignore"):
            return out.astype(self._dtype, copy=False).reshape(values.shape)

    def _small(self, values: npt.NDArray[Any]) -> bool:
        """Whether float32, which keeps 24 bits, will do: fine for 8-bit values; others could lose digits in x - mean."""
        return values.dtype.kind in "biu" and values.dtype.itemsize == 1 and self._dtype.itemsize <= 4

    def _rows(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Floats, Floats]:
        """The values with one row each, and constants as long as a row: along a last axis of 3 NumPy is seven times slower."""
        channels = len(self._mean)
        if channels > 1 and values.shape[-1:] != (channels,):
            raise SchemaError(f"expected {channels} channels in the last axis, found values of shape {values.shape}")
        rows = values.reshape(max(len(values), 1), -1)
        work = np.dtype(np.float32 if self._small(values) else np.float64)
        repeat = 1 if channels == 1 else rows.shape[1] // channels
        known = self._known
        if (len(known[0]), known[0].dtype) != (repeat * channels, work):
            self._known = known = np.tile(self._mean.astype(work), repeat), np.tile(self._scale.astype(work), repeat)
        return rows, *known
