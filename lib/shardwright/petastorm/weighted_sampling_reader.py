"""`WeightedSamplingReader`: rows of several readers, each of one that is drawn by its probability.

Semantics: petastorm 0.13.1, ``weighted_sampling_reader.py``. Beyond it: `seed` makes the draws reproducible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np


class WeightedSamplingReader:
    """A reader of readers, which ends with the first of them that does.

    `probabilities` need not sum to 1. Raises ValueError for fewer than two readers, for as many probabilities as there are not
    readers, and for readers whose rows are not alike: batches and rows, other fields, other windows.
    """

    def __init__(self, readers: Sequence[Any], probabilities: Sequence[float], seed: int | None = None) -> None:
        if len(readers) <= 1:
            raise ValueError(f"Two or more readers must be specified. Got {len(readers)}.")
        if len(readers) != len(probabilities):
            raise ValueError("readers and probabilities are expected to be lists of the same length")
        first = readers[0]
        for other in readers[1:]:
            if other.batched_output != first.batched_output:
                raise ValueError(
                    'All readers passed to WeightedSamplingReader should have the same value of "batched_output" attribute'
                )
            if set(other.schema.fields) != set(first.schema.fields):
                raise ValueError("All readers passed to WeightedSamplingReader should have the same schema")
            if other.ngram != first.ngram:
                raise ValueError("All readers passed to WeightedSamplingReader should have the same ngram spec")
        self._readers = readers
        self._weights = np.asarray(probabilities, np.float64) / np.sum(probabilities)
        self._generator = np.random.default_rng(seed)
        self.batched_output, self.ngram, self.schema = first.batched_output, first.ngram, first.schema

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._readers[int(self._generator.choice(len(self._readers), p=self._weights))])

    def next(self) -> Any:
        """The next row or batch."""
        return next(self)

    @property
    def last_row_consumed(self) -> bool:
        """Whether one of the readers has ended."""
        return any(reader.last_row_consumed for reader in self._readers)

    def stop(self) -> None:
        """End all of them."""
        for reader in self._readers:
            reader.stop()

    def join(self) -> None:
        """Wait until their threads have ended."""
        for reader in self._readers:
            reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()
