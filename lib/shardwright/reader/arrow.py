"""Batches as Arrow tables.

What each field becomes:

=====================================================  ==================================================================
number, bool, string, bytes                            the Arrow type of the same name and width
timestamp                                              ``timestamp[us]``
array or picture of one shape                          ``fixed_shape_tensor`` (storage: a fixed-size list in C order)
array or picture with a dimension that varies          nested lists, a fixed-size list where the inner dimensions do not vary
nullable field of any kind                             the same, with real nulls
``_key``                                               ``fixed_size_binary[16]``
``_pad``                                               ``bool``
picture, encoded (`Dataset.to_arrow(encoded=True)`)    ``binary``: the bytes as stored, a JPEG, PNG or WebP
=====================================================  ==================================================================

A field that was normalised or transformed on the way has the type of what it became.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.format.batch import mask_name
from shardwright.format.layout import KEY, KEY_COLUMN
from shardwright.reader.columns import Batch
from shardwright.schema import Field, Schema

_Array = npt.NDArray[Any]


def arrow_table(batch: Batch, schema: Schema) -> pa.Table:
    """`batch` as `Dataset.take` or a loader gave it, or what a transform made of it: masks become nulls.

    Numbers and arrays of one shape share their memory with the batch.
    """
    fields = {field.name: field for field in schema}
    masks = {mask_name(field.name) for field in schema if field.nullable} - set(fields)
    return pa.table(
        {
            name: _column(name, values, fields.get(name), batch.get(mask_name(name)))
            for name, values in batch.items()
            if name not in masks
        }
    )


def _column(name: str, values: _Array, field: Field | None, mask: _Array | None) -> pa.Array:
    if name == KEY:
        return pa.FixedSizeBinaryArray.from_buffers(KEY_COLUMN.arrow_type, len(values), [None, pa.py_buffer(values)])
    if values.dtype != object:
        return _one_shape(values, mask if field is not None and field.nullable else None)
    first = next((value for value in values if value is not None), None)
    if isinstance(first, np.ndarray):
        shape = field.shape if field is not None and len(field.shape) == first.ndim else (None,) * first.ndim
        return _ragged(values, shape, first.dtype)
    if first is None and field is not None and field.shape:
        return _ragged(values, field.shape, field.numpy_dtype)
    empty = {"string": pa.string(), "bytes": pa.binary()}.get(field.dtype) if first is None and field is not None else None
    return pa.array(values, empty)


def _one_shape(values: _Array, mask: _Array | None) -> pa.Array:
    """One value per row, or one array of shape values.shape[1:]."""
    if values.ndim == 1:
        return pa.array(values, mask=mask, from_pandas=False)
    shape = values.shape[1:]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), from_pandas=False)
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape), mask=None if mask is None else pa.array(mask))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, shape), storage)


def _ragged(values: _Array, shape: tuple[int | None, ...], dtype: np.dtype[Any]) -> pa.Array:
    """Arrays of several shapes, of which `shape` gives the dimensions that are the same, as nested lists; None as null."""
    missing = np.array([value is None for value in values], bool)
    empty = np.zeros([size or 0 for size in shape], dtype)
    arrays = [empty if value is None else value for value in values]
    sizes = np.array([array.shape for array in arrays], np.int64).reshape(len(arrays), len(shape))
    out = pa.array(np.concatenate([array.reshape(-1) for array in arrays]) if arrays else empty.reshape(-1), from_pandas=False)
    for dimension in reversed(range(len(shape))):
        mask = pa.array(missing) if dimension == 0 and missing.any() else None
        if (size := shape[dimension]) is not None:
            out = pa.FixedSizeListArray.from_arrays(out, size, mask=mask)
            continue
        lists = np.repeat(sizes[:, dimension], sizes[:, :dimension].prod(axis=1))
        out = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], lists.cumsum()]), pa.int32()), out, mask=mask)
    return out
