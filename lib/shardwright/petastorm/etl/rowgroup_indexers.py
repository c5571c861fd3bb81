"""What Petastorm's row-group indexes are described by; see `rowgroup_indexing`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SingleFieldIndexer:
    """An index of a field's values."""

    index_name: str
    index_field: str


@dataclass(frozen=True)
class FieldNotNullIndexer:
    """An index of where a field is not null."""

    index_name: str
    index_field: str
