"""standardise: exact statistics over what is published, and the transform x' = (x - mean) / std that they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from shardwright.codecs import decode_value
from shardwright.errors import SchemaError
from shardwright.format.layout import Column, column
from shardwright.format.manifest import Standardisation, Statistics
from shardwright.format.statistics import FieldSummary
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import Field, Schema


class StandardiseOptions(BaseModel):
    """Which fields the reader standardises, and from which split's samples mean and std come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: tuple[str, ...] = ()
    at: Literal["read"] = "read"
    split: str = "train"


class CollectStatistics:
    """A Fit: the summary of every field; pictures are decoded for it where `decoded` names them."""

    name = "standardise"

    def __init__(self, schema: Schema, *, decoded: tuple[str, ...] = ()) -> None:
        self._schema = schema
        self._decoded = decoded
        self._columns = {field.name: column(field) for field in schema}
        self._summaries = {field.name: FieldSummary(field) for field in schema}

    def update(self, samples: Mapping[str, pa.Array]) -> None:
        """Take samples in: for each field an array of `layout.sample_type`, fixed arrays with their header."""
        for field in self._schema:
            self._update_field(field, samples[field.name])

    def _update_field(self, field: Field, array: pa.Array) -> None:
        summary = self._summaries[field.name]
        if not field.shape:
            summary.update_column(array)
            return
        if field.fixed and not field.nullable:
            summary.update(_fixed_values(self._columns[field.name], array, field))
            return
        summary.add_missing(array.null_count)
        present = array.drop_null()
        if field.is_image and field.name not in self._decoded:
            summary.add_unseen(len(present))
            return
        for value in present:
            summary.update(decode_value(field, value.as_buffer())[None])

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take in what `to_json` gave elsewhere."""
        for name, summary in self._summaries.items():
            summary.merge(FieldSummary.from_json(self._schema[name], other[name]))

    def to_json(self) -> dict[str, Any]:
        """The summaries as plain JSON."""
        return {name: summary.to_json() for name, summary in self._summaries.items()}

    def finish(self, split: str) -> Statistics:
        """The statistics of all that was taken in."""
        return Statistics(split=split, fields={name: summary.finish() for name, summary in self._summaries.items()})


def standardisations(statistics: Statistics, options: StandardiseOptions) -> tuple[Standardisation, ...]:
    """The transform of every field in `options`. Raises SchemaError for a field without finite values."""
    out = []
    for name in options.fields:
        found = statistics.fields[name]
        mean = tuple(value for value in found.mean if value is not None)
        std = tuple(value for value in found.std if value is not None)
        if not mean or len(mean) != len(found.mean):
            raise SchemaError(f"standardise: field {name!r} has a channel without finite values in split {statistics.split!r}")
        out.append(Standardisation(field=name, at=options.at, mean=mean, std=std))
    return tuple(out)


def _fixed_values(column: Column, array: pa.Array, field: Field) -> npt.NDArray[Any]:
    cells = fixed_bytes(array)[:, len(column.header) :]
    return cells.view(field.numpy_dtype).reshape(len(array), *(size or 0 for size in field.shape))
