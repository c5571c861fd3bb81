"""`ReaderMock`: a reader without a dataset, of values that a function makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Self

import numpy as np

from shardwright.petastorm.unischema import Unischema

_VARYING = 10
"""The size that a dimension which varies has in example data."""


class ReaderMock:
    """Hands out, without end, rows of `schema` of the values that ``schema_data_generator(schema)`` returns as a dict.

    Raises ValueError for an NGram.
    """

    def __init__(
        self, schema: Unischema, schema_data_generator: Callable[[Unischema], dict[str, Any]], ngram: Any = None
    ) -> None:
        if ngram is not None:
            raise ValueError("Sequence argument not supported for ReaderMock")
        self.schema, self.schema_data_generator = schema, schema_data_generator
        self.ngram, self.batched_output, self.last_row_consumed = None, False, False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.schema.make_namedtuple(**self.schema_data_generator(self.schema))

    def next(self) -> Any:
        """The next row."""
        return next(self)

    def stop(self) -> None:
        """There is nothing to end."""

    def join(self) -> None:
        """There is nothing to wait for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""


def schema_data_generator_example(schema: Unischema) -> dict[str, Any]:
    """Zeros for each field."""
    return {
        field.name: Decimal("0.0")
        if field.numpy_dtype is Decimal
        else np.zeros([_VARYING if size is None else size for size in field.shape], field.numpy_dtype)
        for field in schema.fields.values()
    }
