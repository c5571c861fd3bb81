"""Predicates: which rows a reader hands out.

With `make_reader` they see a dict of decoded values for each row, with `make_batch_reader` a pandas DataFrame of a row group.
Semantics: petastorm 0.13.1, ``predicates.py``.
"""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


class PredicateBase(ABC):
    """The base class of predicates, and of a team's own."""

    @abstractmethod
    def get_fields(self) -> Collection[str]:
        """The names of the fields that it looks at, which are read before all others."""

    @abstractmethod
    def do_include(self, values: Any) -> Any:
        """Whether to hand a row out; of a DataFrame, a boolean for each of its rows."""


class in_set(PredicateBase):  # noqa: N801 - Petastorm's name
    """Rows whose field has one of some values."""

    def __init__(self, inclusion_values: Iterable[Any], predicate_field: str) -> None:
        self._inclusion_values = set(inclusion_values)
        self._predicate_field = predicate_field

    def get_fields(self) -> set[str]:
        """That field."""
        return {self._predicate_field}

    def do_include(self, values: Mapping[str, Any]) -> bool:
        """Whether its value is one of them."""
        return values[self._predicate_field] in self._inclusion_values


class in_intersection(PredicateBase):  # noqa: N801 - Petastorm's name
    """Rows whose field, a list, has at least one of some values."""

    def __init__(self, inclusion_values: Iterable[Any], _predicate_field: str) -> None:
        self._inclusion_values = list(inclusion_values)
        self._predicate_field = _predicate_field

    def get_fields(self) -> set[str]:
        """That field."""
        return {self._predicate_field}

    def do_include(self, values: Mapping[str, Any]) -> bool:
        """Whether one of its elements is one of them."""
        if not isinstance(values[self._predicate_field], Iterable):
            raise ValueError("Predicate field should have iterable type")
        return bool(np.isin(values[self._predicate_field], self._inclusion_values).any())


class in_lambda(PredicateBase):  # noqa: N801 - Petastorm's name
    """Rows for which a function of some fields, in that order, is true; `state_arg` follows them where it is not None."""

    def __init__(self, predicate_fields: list[str], predicate_func: Callable[..., Any], state_arg: Any = None) -> None:
        if not isinstance(predicate_fields, list):
            raise ValueError("Predicate fields should be a list")
        self._predicate_fields = predicate_fields
        self._predicate_func = predicate_func
        self._state_arg = state_arg

    def get_fields(self) -> set[str]:
        """Those fields."""
        return set(self._predicate_fields)

    def do_include(self, values: Any) -> Any:
        """What the function returns."""
        args = [values[field] for field in self._predicate_fields]
        return self._predicate_func(*args, *(() if self._state_arg is None else (self._state_arg,)))


class in_negate(PredicateBase):  # noqa: N801 - Petastorm's name
    """The rows that another predicate leaves out."""

    def __init__(self, predicate: PredicateBase) -> None:
        _check([predicate])
        self._predicate = predicate

    def get_fields(self) -> Collection[str]:
        """The other's."""
        return self._predicate.get_fields()

    def do_include(self, values: Any) -> bool:
        """Whether the other one does not."""
        return not self._predicate.do_include(values)


class in_reduce(PredicateBase):  # noqa: N801 - Petastorm's name
    """What `reduce_func` (`all`, `any`, …) makes of the list of what some predicates say."""

    def __init__(self, predicate_list: Sequence[PredicateBase], reduce_func: Callable[[list[Any]], Any]) -> None:
        _check(predicate_list)
        self._predicate_list = predicate_list
        self._reduce_func = reduce_func

    def get_fields(self) -> set[str]:
        """Those of all of them."""
        return {field for one in self._predicate_list for field in one.get_fields()}

    def do_include(self, values: Any) -> Any:
        """What the function returns."""
        return self._reduce_func([one.do_include(values) for one in self._predicate_list])


class in_pseudorandom_split(PredicateBase):  # noqa: N801 - Petastorm's name
    """Rows of one of several subsets, which a field's value is assigned to by the MD5 of its text.

    `fraction_list` are the subsets' shares. The assignment is always the same, and bit for bit Petastorm's.
    """

    def __init__(self, fraction_list: Sequence[float], subset_index: int, predicate_field: str) -> None:
        if subset_index >= len(fraction_list):
            raise ValueError("subset_index is out of range")
        self._predicate_field = predicate_field
        low = sum(fraction_list[:subset_index]) if subset_index else 0
        self._bucket_low = low * (sys.maxsize - 1)
        self._bucket_high = sum(fraction_list[: subset_index + 1]) * (sys.maxsize - 1)

    def get_fields(self) -> set[str]:
        """That field."""
        return {self._predicate_field}

    def do_include(self, values: Mapping[str, Any]) -> bool:
        """Whether the value is of that subset."""
        if self._predicate_field not in values:
            raise ValueError(f"Tested values does not have split key: {self._predicate_field}")
        text = str(values[self._predicate_field]).encode("utf-8")
        bucket = int(hashlib.md5(text, usedforsecurity=False).hexdigest(), 16) % sys.maxsize
        return self._bucket_low <= bucket < self._bucket_high


def _check(predicates: Iterable[object]) -> None:
    if not all(isinstance(one, PredicateBase) for one in predicates):
        raise ValueError("Predicate is nor derived from PredicateBase")
