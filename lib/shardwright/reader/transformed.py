"""What a transform of one's own makes of a batch, looked at before the trainer gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from shardwright.errors import ConfigError
from shardwright.reader.columns import Batch


def transformed(transform: Callable[[Batch], Batch], batch: Batch, samples: int) -> Batch:
    """What `transform` returns for a batch of `samples` samples: it may add, drop, replace and reshape columns.

    Raises ConfigError, with all that is wrong, unless that is a dict of NumPy arrays of `samples` values each: all ranks have
    batches of the same sizes, and which values are of one sample is told by their row.
    """
    found: object = transform(batch)
    problems = list(_problems(found, samples))
    if problems:
        name = getattr(transform, "__qualname__", None) or repr(transform)
        raise ConfigError([f"transform {name}: {problem}" for problem in problems])
    assert isinstance(found, dict)
    return found


def _problems(found: object, samples: int) -> Iterator[str]:
    if found is None:
        yield "expected the batch, found None; return it, also when it was changed in place"
    elif not isinstance(found, dict):
        yield f"expected the batch, a dict of NumPy arrays, found {_kind(found)}"
    elif not found:
        yield "expected a batch with at least one column, found none"
    else:
        for name, values in found.items():
            if not isinstance(name, str):
                yield f"expected names of columns, found {name!r}"
            elif not isinstance(values, np.ndarray):
                yield f"column {name!r}: expected a NumPy array of {samples} samples, found {_kind(values)}"
            elif values.shape[:1] != (samples,):
                yield (
                    f"column {name!r}: expected {samples} samples, one in each row, found shape {values.shape}; to leave "
                    "samples out, say Dataset.where or select before the loader is made"
                )


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
