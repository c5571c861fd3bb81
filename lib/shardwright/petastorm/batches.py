"""From the columns of a row group to the arrays of `make_batch_reader`'s batches.

Semantics: petastorm 0.13.1, ``arrow_reader_worker.py``, measured: strings are an array of `str`, lists of one length a matrix,
integers with nulls floats with NaN, dates and decimals arrays of Python objects, everything else what Arrow converts to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from shardwright.petastorm.unischema import Unischema

_INT32 = 2**31


def to_arrays(table: pa.Table, schema: Unischema) -> dict[str, npt.NDArray[Any]]:
    """Each column as a writable array, whose first axis are the rows.

    Raises RuntimeError for a column of lists that are not of one length.
    """
    return {name: _array(name, table.column(name), schema) for name in table.column_names}


def partition_column(value: int | str, rows: int) -> pa.Array:
    """A hive partition's value, for each row: int32 where it fits."""
    kind = pa.string() if isinstance(value, str) else pa.int32() if -_INT32 <= value < _INT32 else pa.int64()
    return pa.repeat(pa.scalar(value, kind), rows)


def _array(name: str, column: pa.ChunkedArray, schema: Unischema) -> npt.NDArray[Any]:
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pt.is_list(array.type) or pt.is_large_list(array.type) or pt.is_fixed_size_list(array.type):
        return _matrix(name, array, schema.fields[name].shape)
    if pt.is_date(array.type) or pt.is_decimal(array.type):
        return _objects(array)
    if pt.is_string(array.type) or pt.is_large_string(array.type):
        texts: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False).astype(np.str_)
        return texts
    return _writeable(array)


def _writeable(array: pa.Array) -> npt.NDArray[Any]:
    """Numbers where they lie: what was just decoded is nobody else's. Other values, and what can't be written to, as a copy."""
    if len(array) and (pt.is_integer(array.type) or pt.is_floating(array.type)) and not array.null_count:
        values = array.buffers()[1]
        if values is not None and values.is_mutable:
            dtype = np.dtype(array.type.to_pandas_dtype())
            numbers: npt.NDArray[Any] = np.frombuffer(values, dtype, len(array), array.offset * dtype.itemsize)
            return numbers
    found: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return found if found.flags.writeable else found.copy()


def _objects(array: pa.Array) -> npt.NDArray[Any]:
    out = np.empty(len(array), object)
    out[:] = array.to_pylist()
    return out


def _matrix(name: str, array: pa.Array, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """Lists as rows; of a field with more dimensions, in its shape."""
    lengths = array.value_lengths() if not pt.is_fixed_size_list(array.type) else pa.array([array.type.list_size] * len(array))
    found = lengths.unique().to_pylist()
    if len(found) > 1 or None in found:
        told = ", ".join(str(length) for length in lengths.to_pylist()[:1000])
        raise RuntimeError(
            f"Length of all values in column '{name}' are expected to be the same length. "
            f"Got the following set of lengths: '{told}'"
        )
    elements = array.flatten()
    if pt.is_string(array.type.value_type):
        values: npt.NDArray[Any] = elements.to_numpy(zero_copy_only=False).astype(np.str_)
    else:
        values = _writeable(elements)
    rest = shape if len(shape) > 1 else (found[0] if found else 0,)
    return values.reshape(len(array), *rest)
