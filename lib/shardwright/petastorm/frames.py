"""pandas, for those who ask for it: predicates and transforms of `make_batch_reader` take DataFrames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardwright.errors import MissingDependencyError
from shardwright.petastorm.predicates import PredicateBase
from shardwright.petastorm.transform import TransformSpec
from shardwright.petastorm.unischema import Unischema, UnischemaField


def to_frame(table: pa.Table) -> Any:
    """The columns as a `pandas.DataFrame`. Raises MissingDependencyError."""
    try:
        import pandas  # noqa: F401 - pyarrow uses it
    except ImportError as error:
        raise MissingDependencyError(
            "a predicate or transform of make_batch_reader takes a DataFrame: pip install 'shardwright[petastorm]'"
        ) from error
    return table.to_pandas()


def mask_of(predicate: PredicateBase, frame: Any) -> npt.NDArray[np.bool_]:
    """Which rows a predicate takes. Raises ValueError where it does not say so for each of them."""
    found = np.asarray(predicate.do_include(frame))
    if found.shape != (len(frame),):
        raise ValueError(
            f"{type(predicate).__name__}: expected a boolean for each of the {len(frame)} rows of a DataFrame, found "
            f"{type(found).__name__} of shape {found.shape}; make_batch_reader's predicates see whole columns"
        )
    return found.astype(np.bool_)


def checked_frame(frame: Any, transform: TransformSpec, schema: Unischema) -> Any:
    """What a transform returned, without the fields that it removes.

    Raises ValueError where its columns are not those of `schema`.
    """
    for name in set(frame.columns) & set(transform.removed_fields):
        del frame[name]
    if transform.selected_fields is not None:
        frame = frame[[name for name in frame.columns if name in schema.fields]]
    if set(frame.columns) != set(schema.fields):
        raise ValueError(
            f"Transformed result columns ({','.join(map(str, frame.columns))}) do not match required schema columns"
            f"({','.join(schema.fields)})"
        )
    return frame


def from_frame(frame: Any, schema: Unischema) -> pa.Table:
    """The columns of a DataFrame, arrays of several dimensions laid out as lists.

    Raises ValueError for such a value that is no array of the field's shape in C order.
    """
    for field in schema.fields.values():
        if len(field.shape) > 1:
            frame[field.name] = frame[field.name].map(lambda value, field=field: check_shape_and_ravel(value, field))
    return pa.Table.from_pandas(frame, preserve_index=False).select(list(schema.fields))


def check_shape_and_ravel(value: Any, field: UnischemaField) -> npt.NDArray[Any]:
    """An array as one of one dimension. Raises ValueError."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"field {field.name} must be numpy array type.")
    if None in field.shape:
        raise ValueError(
            f"All dimensions of a shape: {field.shape} in: {field.name} field must be constant. "
            "If a dimension is variable, we won't be able to coalesce rows when preparing a batch."
        )
    if value.shape != tuple(field.shape):
        raise ValueError(f"field {field.name} must be the shape {field.shape}")
    if not value.flags.c_contiguous:
        raise ValueError(f"field {field.name} error: only support row major multi-dimensional array.")
    return value.ravel()
