"""A value becomes its number in a list of values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.format.statistics import Label


class Categories:
    """Finds the values of an Arrow column among `values`, which are bools, integers or strings."""

    def __init__(self, values: Sequence[Label]) -> None:
        self._values = tuple(values)

    def numbers(self, column: pa.Array) -> npt.NDArray[np.int32]:
        """For each of n values its number, int32 (n,): -1 for a null, and for one that is not among the values."""
        known = pa.array(self._values, column.type)
        numbers: npt.NDArray[np.int32] = (
            pc.index_in(column, known, skip_nulls=True).fill_null(-1).to_numpy(zero_copy_only=False)
        )
        return numbers

    def one_hot(self, column: pa.Array) -> npt.NDArray[np.uint8]:
        """uint8 (n, k): a 1 at the number of each value, all zeros where `numbers` gives -1."""
        numbers = self.numbers(column)
        out = np.zeros((len(numbers), len(self._values)), np.uint8)
        known = np.flatnonzero(numbers >= 0)
        out[known, numbers[known]] = 1
        return out
