"""Samplers of a dataset: the field that classes or weights come from is read once, when the loader is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import ConfigError, SchemaError
from shardwright.order import Balanced, Plan, Sampling
from shardwright.order.sampling import BalancedSampler, Sampler, WeightedSampler, check_weights
from shardwright.schema import INTEGERS, NUMBERS

if TYPE_CHECKING:
    from shardwright.reader.dataset import Dataset

_CLASSES = (*INTEGERS, "bool", "string")


def open_sampler(dataset: Dataset, sampling: Sampling, plan: Plan) -> Sampler:
    """The sampler of `dataset` for `plan`.

    Raises SchemaError for a field that is unknown or of another kind, ConfigError for nulls, weights that can't be, or no
    samples.
    """
    if not len(dataset):
        raise ConfigError(["sampling: the dataset has no samples to draw from"])
    if isinstance(sampling, Balanced):
        return BalancedSampler(
            plan, _classes(_column(dataset, sampling.field, _CLASSES, "a class is a whole number, bool or string"))
        )
    if isinstance(sampling.weights, str):
        weights = _column(dataset, sampling.weights, NUMBERS, "a weight is a number").to_numpy()
    else:
        weights = np.asarray(sampling.weights)
    return WeightedSampler(plan, check_weights(weights, len(dataset)))


def _column(dataset: Dataset, name: str, dtypes: tuple[str, ...], expected: str) -> pa.ChunkedArray:
    field = dataset.manifest.content.dataset_schema[name]
    if field.shape or field.dtype not in dtypes:
        raise SchemaError(f"sampling: field {name!r} is {field.dtype} of shape {field.shape}; {expected}")
    column = dataset.reading(name).to_arrow()[name]
    if column.null_count:
        hint = f"leave them out with dataset.where('{name} is not null')"
        raise ConfigError([f"sampling: {column.null_count} samples have no {name!r}; {hint}"])
    return column


def _classes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The class of each sample: the place of its value among the distinct ones, ascending."""
    coded = column.combine_chunks().dictionary_encode()
    place = np.empty(len(coded.dictionary), np.int64)
    place[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(place))
    classes: npt.NDArray[np.int64] = place[coded.indices.to_numpy()]
    return classes
