"""Values that can't be decoded: which samples of a batch they belong to, and where these lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardwright.errors import DecodeError
from shardwright.reader.columns import Batch, Located

if TYPE_CHECKING:
    from shardwright.reader.dataset import Source

I64 = npt.NDArray[np.int64]


def read_located(source: Source, indexes: I64, located: Sequence[Located]) -> Batch:
    """The samples `indexes`, located before. Raises DecodeError that names part and sample."""
    with named_damage(source, indexes):
        return source.columns.decode(source.columns.fetch(located))


@contextmanager
def named_damage(source: Source, indexes: I64) -> Iterator[None]:
    """Let a DecodeError of reading the samples `indexes` name part and sample."""
    try:
        yield
    except DecodeError as error:
        problems = damaged_rows(source, indexes)
        raise DecodeError(next(iter(problems.values()), str(error))) from error


def damaged_rows(source: Source, indexes: I64) -> dict[int, str]:
    """The rows of `indexes` whose samples can't be decoded, and of each one where it lies and what is wrong.

    Each is read by itself: slow, for when a batch has failed. A part that is missing or too short still raises CorruptError,
    since that is no matter of one sample.
    """
    out = {}
    columns = source.columns
    for row, index in enumerate(indexes.tolist()):
        try:
            columns.decode(columns.fetch(columns.locate(indexes[row : row + 1])))
        except DecodeError as error:
            parts = source.catalog.parts
            part = int(np.searchsorted(parts.first, index, side="right")) - 1
            name = f"{source.url}/{source.version}/{parts.name[part]}"
            out[row] = f"{name}: sample {index - int(parts.first[part])} of the part can't be decoded: {error}"
    return out
