"""From the stored values of a transform at write back to the original ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import SchemaError
from shardwright.format.manifest import Affine, OneHot, Transform, Vocabulary
from shardwright.format.statistics import Label
from shardwright.schema import Field

Array = npt.NDArray[Any]


def inverse(transform: Transform, values: Array) -> Array:
    """The original values of n stored ones, in the dtype of `transform.original`; None stays None in an object array.

    Affine: values (n, *shape); integers are rounded and kept within their dtype, and 0 where a value is missing (NaN), as the
    reader has it. Vocabulary: numbers (n,); one-hot: vectors (n, k). Those give the values as an object array (n,), None for an
    unknown one. An object array of arrays (of several shapes) gives such an array. Raises SchemaError for a transform that was
    not applied at write, and for numbers that stand for nothing.
    """
    original = transform.original
    if transform.at != "write" or original is None:
        raise SchemaError(
            f"inverse: field {transform.field!r} was not transformed at write, its stored values are the original"
        )
    if not isinstance(transform, Affine):
        return _labels(transform.field, _numbers(transform, values), (None, *transform.values))
    if values.dtype != object:
        return _scale_back(transform, original, values)
    out = np.empty_like(values)
    for row, value in enumerate(values):
        out[row] = None if value is None else _scale_back(transform, original, np.asarray(value))[()]
    return out


def _scale_back(transform: Affine, original: Field, values: Array) -> Array:
    offset, scale = (np.asarray(each, np.float64) for each in transform.affine())
    if len(offset) > 1 and values.shape[-1:] != offset.shape:
        raise SchemaError(f"inverse: expected {len(offset)} channels in the last axis, found values of shape {values.shape}")
    out = values.astype(np.float64) * scale + offset
    dtype = original.numpy_dtype.newbyteorder("=")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return out.astype(dtype)
    limits = np.iinfo(dtype)
    # beyond 2**53 a limit rounds up to a float that the dtype can't hold: the cast leaves open what becomes of that
    below, above = out <= float(limits.min), out >= float(limits.max)
    whole = np.where(below | above | np.isnan(out), 0, np.rint(out)).astype(dtype)
    return np.where(below, limits.min, np.where(above, limits.max, whole)).astype(dtype)


def _numbers(transform: Vocabulary | OneHot, values: Array) -> Array:
    """The numbers of stored values from 1, 0 for an unknown one."""
    if isinstance(transform, OneHot):
        return np.where(values.any(axis=1), values.argmax(axis=1) + 1, 0)
    return values if transform.unknown else values + 1


def _labels(field: str, numbers: Array, labels: tuple[Label | None, ...]) -> Array:
    bad = (numbers < 0) | (numbers >= len(labels))
    if bad.any():
        raise SchemaError(f"inverse: field {field!r}: {numbers[bad][0]} is the number of no value, there are {len(labels) - 1}")
    known = np.empty(len(labels), object)
    known[:] = labels
    return known[numbers]
