"""Values that can't be decoded: which samples of a batch they belong to, and where these lie."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardwright.errors import DecodeError
from shardwright.reader.columns import Batch
from shardwright.reader.finishing import Finish

if TYPE_CHECKING:
    from shardwright.reader.dataset import Source

I64 = npt.NDArray[np.int64]
_AS_STORED: Mapping[str, Finish] = MappingProxyType({})


def read_samples(source: Source, indexes: I64, finish: Mapping[str, Finish] = _AS_STORED) -> Batch:
    """The samples that lie at `indexes`. Raises DecodeError that names part and sample."""
    columns = source.columns
    try:
        return columns.decode(columns.fetch(columns.locate(indexes)), finish)
    except DecodeError as error:
        raise DecodeError(next(iter(damaged_rows(source, indexes).values()), str(error))) from error


def damaged_rows(source: Source, indexes: I64) -> dict[int, str]:
    """The rows of `indexes` whose samples can't be decoded, and of each one where it lies and what is wrong.

    Each is read by itself: slow, for when a batch has failed. A part that is missing or too short still raises CorruptError,
    since that is no matter of one sample.
    """
    out = {}
    columns = source.columns
    for row, index in enumerate(indexes.tolist()):
        try:
            columns.decode(columns.fetch(columns.locate(indexes[row : row + 1])), _AS_STORED)
        except DecodeError as error:
            parts = source.catalog.parts
            part = int(np.searchsorted(parts.first, index, side="right")) - 1
            name = f"{source.url}/{source.version}/{parts.name[part]}"
            out[row] = f"{name}: sample {index - int(parts.first[part])} of the part can't be decoded: {error}"
    return out
