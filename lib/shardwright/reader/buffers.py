"""Memory of batches that nobody holds any more, for batches to come: new memory costs the kernel as much as filling it does."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BESIDE = 4
"""So many arrays of a size are in use beside those that wait for the trainer: one or two are with it, two are being made."""
_ONLY_HERE = 3
"""References to an array that is in the list alone: the list's, the loop's, and that of who counts."""
_COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a count of references is one: without the global lock it is spread over threads."""


class Buffers:
    """Gives out arrays, and gives them out again once nobody refers to them.

    As many are remembered as are in use at a time: `limit` bytes, and a few beside.

    Views, tensors and exported buffers refer to their array, so what somebody still looks at stays as it is. For one thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._kept: dict[str, list[Array]] = {}

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array for column `name`, which holds anything."""
        kept = self._kept.setdefault(name, [])
        for array in kept:
            if array.shape == shape and array.dtype == dtype and sys.getrefcount(array) == _ONLY_HERE:
                return array
        new = np.empty(shape, dtype)
        if _COUNTED and self._limit and self._bytes < self._limit + _BESIDE * new.nbytes:
            kept.append(new)
            self._bytes += new.nbytes
        return new

    def trim(self) -> None:
        """Forget what is more than `limit`: for the time until it is needed again."""
        for kept in self._kept.values():
            while kept and self._bytes > self._limit:
                self._bytes -= kept.pop().nbytes


NEW = Buffers(0)
"""Always new arrays."""
