"""`petastorm`, or what stands in for it, and what its readers hand out, as plain text."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np

from tests.petastorm.differential.described import describe


class Package:
    """`petastorm`, or what stands in for it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, module: str) -> Any:
        return importlib.import_module(f"{self.name}.{module}")

    def rows(self, url: Any, **options: Any) -> list[Any]:
        """All rows of `make_reader`."""
        return self._all(self.reader.make_reader, url, options)

    def batches(self, url: Any, **options: Any) -> list[Any]:
        """All batches of `make_batch_reader`."""
        return self._all(self.reader.make_batch_reader, url, options)

    def _all(self, make: Callable[..., Any], url: Any, options: dict[str, Any]) -> list[Any]:
        options = {"reader_pool_type": "dummy", "shuffle_row_groups": False, **options}
        with self.quiet(make, url, **options) as reader:
            return [described_row(row) for row in reader]

    @contextmanager
    def quiet(self, make: Callable[..., Any], url: Any, **options: Any) -> Iterator[Any]:
        """A reader whose warnings, of either package, are not heard."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with make(url, **options) as reader:
                yield reader


def described_row(row: Any) -> dict[str, Any]:
    """A row, a batch, or a window of rows."""
    if isinstance(row, dict):
        return {str(offset): described_row(one) for offset, one in row.items()}
    return {"_type": type(row).__name__, **{name: describe(value) for name, value in row._asdict().items()}}


def described_schema(reader: Any) -> list[Any]:
    """Its fields, in order."""
    return [
        [field.name, np.dtype(field.numpy_dtype).str if field.numpy_dtype is not Decimal else "decimal", list(field.shape),
         type(field.codec).__name__, field.nullable]
        for field in reader.schema.fields.values()
    ]  # fmt: skip
