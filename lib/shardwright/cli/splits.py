"""Which split a verb means."""

from __future__ import annotations

from shardwright.errors import DatasetNotFoundError
from shardwright.format.manifest import Manifest
from shardwright.schema import suggest


def chosen_split(manifest: Manifest, split: str | None, *, where: str) -> str:
    """`split`, by default train, or else the first one. Raises DatasetNotFoundError for one that does not exist."""
    known = sorted(manifest.content.splits)
    if split is None:
        return "train" if "train" in known else known[0]
    if split not in known:
        raise DatasetNotFoundError(f"{where} has no split {split!r}: {suggest(split, known)}")
    return split
