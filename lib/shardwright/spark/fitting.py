"""The fitting pass: the samples that will be published in one split in; out comes the summary that the transforms at write are
fitted to. Executors run it, without a shuffle: a task takes the samples of an index file as they were staged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.hashing.places import as_matrix, as_sortable
from shardwright.schema import Schema
from shardwright.spark.encoding import bare_column
from shardwright.spark.exchange import Exchange
from shardwright.spark.index import IndexFiles
from shardwright.spark.reading import REPORT
from shardwright.spark.row_groups import row_groups
from shardwright.stages.standardise import FitTransforms, StandardiseOptions

FEW_TASKS = 64
"""So many summaries are merged in the driver; of more, which may be megabytes each, tasks merge some first."""
_CHUNK_BYTES = 8 * 2**20
"""Staged samples that are fetched at once."""


@dataclass(frozen=True, kw_only=True)
class FitPass:
    """The fitting pass as one function over batches, for `mapInArrow`: numbers of index files to one summary per task."""

    index: IndexFiles
    exchange: Exchange
    schema: Schema
    options: StandardiseOptions
    split: str
    end: bytes
    """The place key past the last published sample."""

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One report: the summary as JSON."""
        fit = FitTransforms(self.schema, self.options)
        names = list(self.options.at_write())
        fetched = [bare_column(self.schema[name]) for name in names]
        wanted = ["split", "place_key", "bytes", *(column.name for column in self.exchange.columns)]
        for batch in self.index.read(numbers, wanted):
            own = pa.Table.from_batches([self._published(batch)])
            for first, stop in row_groups(own["bytes"].to_numpy(), _CHUNK_BYTES):
                arrays = self.exchange.fetch(own.slice(first, stop - first), fetched)
                fit.update(dict(zip(names, arrays, strict=True)))
        yield pa.RecordBatch.from_pylist([{"report": json.dumps(fit.to_json())}], REPORT)

    def merge(self, reports: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One report of several, for `mapInArrow`."""
        fit = FitTransforms(self.schema, self.options)
        for batch in reports:
            for text in batch["report"].to_pylist():
                fit.merge(json.loads(text))
        yield pa.RecordBatch.from_pylist([{"report": json.dumps(fit.to_json())}], REPORT)

    def _published(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        own = batch.filter(pc.equal(batch["split"], self.split))
        keys = as_sortable(as_matrix(own["place_key"])) if own.num_rows else np.empty(0, "S1")
        return own.filter(pa.array(keys < np.bytes_(self.end)))
