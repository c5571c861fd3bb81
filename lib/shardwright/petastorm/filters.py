"""`filters`: which files a reader takes, by their hive partitions.

Of data columns they take nothing away, as with stock Petastorm (measured on 0.13.1); there is a warning then.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from shardwright.petastorm.options import Filter, Filters
from shardwright.petastorm.store import Store

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "in": lambda value, wanted: value in wanted,
    "not in": lambda value, wanted: value not in wanted,
}


def matching_files(store: Store, filters: Filters) -> set[str]:
    """The files for which all of the filters hold, or all of one of several lists of filters.

    Raises ValueError for a filter that is not (partition, operator, value).
    """
    alternatives = [_checked(one) for one in _alternatives(filters)]
    others = {name for one in alternatives for name, _, _ in one} - set(store.partition_names)
    if others:
        warnings.warn(
            f"filters: {', '.join(sorted(others))} are no hive partitions, so they select nothing; use a predicate",
            stacklevel=4,
        )
    return {name for name in store.names if any(_holds(store.partitions(name), one) for one in alternatives)}


def _alternatives(filters: Filters) -> Sequence[Sequence[Filter]]:
    if all(isinstance(one, tuple) for one in filters):
        return [filters]  # type: ignore[list-item]
    return filters  # type: ignore[return-value]


def _checked(filters: Sequence[Any]) -> Sequence[Filter]:
    for one in filters:
        if len(one) != 3 or one[1] not in _OPERATORS:
            raise ValueError(f"filters: expected (partition, one of {' '.join(_OPERATORS)}, value), found {one!r}")
    return filters


def _holds(partitions: dict[str, Any], filters: Sequence[Filter]) -> bool:
    for name, how, wanted in filters:
        if name not in partitions:
            continue
        value, sample = partitions[name], next(iter(wanted), None) if how in ("in", "not in") else wanted
        if isinstance(value, int) and isinstance(sample, str):
            value = str(value)
        elif isinstance(value, str) and isinstance(sample, int):
            value = type(sample)(value)
        if not _OPERATORS[how](value, wanted):
            return False
    return True
