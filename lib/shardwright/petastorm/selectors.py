"""Row-group selectors: refused. They look values up in a row-group index, which is a pickle, and pickles are not executed.

The names are here so that imports work, and the message is the one that a reader gives.
"""

from __future__ import annotations

from typing import Any

from shardwright.errors import ConfigError

REFUSAL = (
    "rowgroup_selector: row-group indexes are pickles, which are not executed; use predicate=in_set(values, field), which "
    "reads that field of each row group before all others, or filters=[(partition, 'in', values)] for a hive partition"
)


class RowGroupSelectorBase:
    """The base class of selectors. Raises ConfigError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - whatever Petastorm's take
        raise ConfigError([REFUSAL])


class SingleIndexSelector(RowGroupSelectorBase):
    """Row groups with one of some values. Raises ConfigError."""


class IntersectIndexSelector(RowGroupSelectorBase):
    """Row groups that all of some selectors take. Raises ConfigError."""


class UnionIndexSelector(RowGroupSelectorBase):
    """Row groups that any of some selectors takes. Raises ConfigError."""
