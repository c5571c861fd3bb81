"""Context parallelism: the part of a sequence that each rank of a group gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.errors import ConfigError, SchemaError
from shardwright.schema import suggest

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Cuts sequence fields of a batch for rank `rank` of `size`: a ``transform`` for loaders, made by `Place.context`.

    Rank i gets the i-th of `size` equal chunks of each of `fields` along `axis`, so that the parts of all ranks concatenate to
    the whole. With `zigzag` there are 2 x `size` chunks, and it gets chunk i followed by chunk 2 x size - 1 - i, as Megatron-LM
    and PyTorch's load-balanced ring attention have it; `positions` says where its values lie in the whole. Raises
    ConfigError for an axis below 1 or no fields; when called SchemaError for a field that the batch lacks, has as an object
    array, or with a length that the chunks don't divide.
    """

    fields: tuple[str, ...]
    axis: int
    zigzag: bool
    rank: int
    size: int

    def __post_init__(self) -> None:
        expected = {
            f"axis: expected at least 1, since axis 0 is the samples of the batch, found {self.axis}": self.axis >= 1,
            "fields: expected the names of the sequence fields to cut, found none": len(self.fields) > 0,
        }
        problems = [problem for problem, fine in expected.items() if not fine]
        if problems:
            raise ConfigError(problems)

    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        """`batch` with copies of this rank's parts in place of the fields."""
        return batch | {name: self._part(name, batch) for name in self.fields}

    def positions(self, length: int) -> npt.NDArray[np.int64]:
        """Where this rank's values lie in a sequence of `length`: int64 (length / size,), for position embeddings."""
        return self._cut("positions", np.arange(length, dtype=np.int64), 0)

    def _part(self, name: str, batch: dict[str, Array]) -> Array:
        if name not in batch:
            raise SchemaError(f"context parallelism: no field {name!r} in the batch; {suggest(name, list(batch))}")
        values = batch[name]
        if values.dtype == object:
            raise SchemaError(
                f"context parallelism: {name!r} has strings, bytes or arrays of several shapes, which have no common sequence; "
                "give it one shape when the dataset is prepared, or in a transform that calls this one"
            )
        if values.ndim <= self.axis:
            raise SchemaError(f"context parallelism: {name!r} is {values.shape} in the batch, and has no axis {self.axis}")
        return self._cut(name, values, self.axis)

    def _cut(self, name: str, values: Array, axis: int) -> Array:
        chunks, own = self.size, [self.rank]
        if self.zigzag and self.size > 1:
            chunks, own = 2 * self.size, [self.rank, 2 * self.size - 1 - self.rank]
        length, rest = divmod(values.shape[axis], chunks)
        if rest:
            raise SchemaError(
                f"context parallelism: {name!r} is {values.shape}: expected a multiple of {chunks} along axis {axis}, for "
                f"{self.size} ranks{' with 2 chunks each' if chunks > self.size else ''}; cut it to {length * chunks} or "
                f"pad it to {(length + 1) * chunks}"
            )
        parts = [values[(slice(None),) * axis + (slice(chunk * length, (chunk + 1) * length),)] for chunk in own]
        return np.concatenate(parts, axis=axis)
