"""A fitted transform over the values of a field, at write."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.errors import InputError
from shardwright.format.manifest import Affine, OneHot, Transform, Vocabulary
from shardwright.format.values import Values
from shardwright.schema import Field
from shardwright.transforms.categories import Categories
from shardwright.transforms.normalise import Normalise


class Apply:
    """What `transform` makes of the values of a field; `stored` is the field that it gives.

    Nulls stay nulls; in a vocabulary they are unknown. Raises InputError for a value that the fit did not see where none is
    unknown, and for a result that the stored dtype can't hold.
    """

    def __init__(self, transform: Transform, stored: Field) -> None:
        self._transform = transform
        self._stored = stored
        if isinstance(transform, Affine):
            self._normalise = Normalise(*transform.affine(), stored.dtype)
        else:
            self._categories = Categories(transform.values)

    def __call__(self, values: Values) -> Values:
        """The transformed values, as many."""
        if not isinstance(self._transform, Affine):
            return self._code(self._transform, values)
        if isinstance(values, pa.Array):
            return self._scale_column(values)
        if isinstance(values, np.ndarray):
            return self._scale(values)
        return [None if value is None else self._scale(value[None])[0] for value in values]

    def _scale_column(self, column: pa.Array) -> pa.Array:
        missing = column.is_null().to_numpy(zero_copy_only=False)
        scaled = self._scale(column.fill_null(0).to_numpy(zero_copy_only=False))
        return pa.array(scaled, pa.type_for_alias(self._stored.dtype), mask=missing)

    def _scale(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = self._normalise(values)
        lost = ~np.isfinite(out)
        if values.dtype.kind == "f":
            lost &= np.isfinite(values)
        if lost.any():
            raise InputError(
                f"standardise: field {self._stored.name!r}: {values[lost][0].item()} becomes too large for "
                f'{self._stored.dtype}; give it a wider dtype, or method = "min_max"'
            )
        return out

    def _code(self, transform: Vocabulary | OneHot, column: pa.Array) -> Values:
        numbers = self._categories.numbers(column)
        if not transform.unknown and (numbers < 0).any():
            value = column[int(np.flatnonzero(numbers < 0)[0])].as_py()
            found = "a null" if value is None else repr(value)
            raise InputError(
                f"standardise: field {transform.field!r}: {found} does not occur in the split that the values were taken from; "
                "set unknown = true, or give standardise.split a split that has all values"
            )
        if isinstance(transform, OneHot):
            return self._categories.one_hot(column)
        return pa.array(numbers + np.int32(transform.unknown), pa.int32())
