"""The verbs of the pipeline: one file each, pure functions over Arrow batches, tested without Spark.

Read, clean, map, split, standardise, compress, shard, publish: that is their order, and it stands here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

ORDER = ("read", "clean", "map", "split", "standardise", "compress", "shard", "publish")

SOURCE = "_source"
"""Column of every batch: where each sample came from, for people ('train-images-idx3-ubyte.gz#17')."""


@dataclass(frozen=True)
class Rejects:
    """Samples that a stage refused: `rows` of its input batch (ascending), and for each the field and the reason.

    `filtered` is the number of those that it left out because it was asked to.
    """

    rows: list[int] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    filtered: int = 0


def without(batch: pa.RecordBatch, found: Mapping[int, tuple[str, str]]) -> tuple[pa.RecordBatch, Rejects]:
    """The samples of `batch` but for the rows in `found`, and these, each with its field and reason."""
    if not found:
        return batch, Rejects()
    kept = np.ones(batch.num_rows, bool)
    kept[list(found)] = False
    rows = sorted(found)
    return batch.filter(pa.array(kept)), Rejects(rows, [found[row][0] for row in rows], [found[row][1] for row in rows])


class Map(Protocol):
    """A stage that turns a batch into a batch: rows keep their order, rejected ones are left out and named."""

    name: str

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The kept samples, and the rejected rows of `batch`."""


class Fit(Protocol):
    """A stage that gathers a small mergeable summary of all samples, from which the parameters of a Map come."""

    name: str

    def update(self, samples: Mapping[str, pa.Array]) -> None:
        """Take samples into the summary: one array per field."""

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take another summary in, as `to_json` gave it; the order of merging makes no difference."""

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON, to travel from executors to the driver."""
