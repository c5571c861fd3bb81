"""split: which samples train, validate and test: a pure function of seed and key, so that no sample ever changes its split.

Stratified, it is a function of all samples of a class: the class is cut exactly, where its samples stand in the order of the
same hash. So a sample may change its split when others are added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, model_validator

from shardwright.errors import InputError
from shardwright.hashing import KEY_BYTES, keyed_hash
from shardwright.hashing.places import as_sortable
from shardwright.hashing.sample_key import fixed_bytes, key_column, sample_keys
from shardwright.schema import Schema
from shardwright.stages import Rejects

SPLIT = "_split"
CLASS = "_class"
"""XXH3-128 of the class of each sample, where the split is stratified: its split is not known before all samples are."""
MAX_CLASSES = 100_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class SplitOptions(BaseModel):
    """By fractions of a keyed hash (of the sample key, or of a `group` field so that no group is in two splits), or by the
    values of an existing `column`. Without either, everything is `train`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: dict[str, float] | None = None
    group: str | None = None
    column: str | None = None
    stratify: str | None = None
    """Cut the samples of each value of this field exactly, instead of all samples about."""
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> SplitOptions:
        if self.fractions is not None and self.column is not None:
            raise ValueError("expected fractions or column, found both")
        if self.group is not None and self.fractions is None:
            raise ValueError("group needs fractions")
        if self.stratify is not None and self.fractions is None:
            raise ValueError("stratify needs fractions")
        if self.stratify is not None and self.group is not None:
            raise ValueError("expected group or stratify, found both: a group may hold several classes, and is never cut")
        if self.fractions is not None:
            for name in self.fractions:
                if not _NAME.fullmatch(name):
                    raise ValueError(f"split name {name!r}: expected letters, digits, '-' or '_'")
            if any(not share > 0 for share in self.fractions.values()):  # nan too
                raise ValueError(f"expected fractions above 0, found {self.fractions}")
            if abs(sum(self.fractions.values()) - 1) > 1e-9:
                raise ValueError(f"expected fractions that sum to 1, found {self.fractions} = {sum(self.fractions.values())}")
        return self


class Split:
    """Adds `_split`, the name of each sample's split; a value that can't name one is rejected."""

    name = "split"

    def __init__(self, schema: Schema, options: SplitOptions) -> None:
        self._options = options
        for field in (options.group, options.column, options.stratify):
            if field is not None:
                schema[field]  # raises SchemaError with the nearest name
        shares = _shares(options)
        self._names = pa.array(list(shares), pa.string())
        self._thresholds = np.array([int(share * 2**64) for share in np.cumsum(list(shares.values()))[:-1]], np.uint64)

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The batch with `_split`; with `_class` and an empty `_split` where that is known later."""
        if self._options.stratify is not None:
            return _with_class(batch, self._options.stratify), Rejects()
        if self._options.column is not None:
            return self._by_column(batch, self._options.column)
        if self._options.group is not None:
            keys = sample_keys([key_column(batch[self._options.group])], batch.num_rows)
        else:
            keys = fixed_bytes(batch["_key"])
        hashed = keyed_hash(self._options.seed, "split", keys)
        which = np.searchsorted(self._thresholds, hashed, side="right")
        return batch.append_column(SPLIT, self._names.take(pa.array(which))), Rejects()

    def _by_column(self, batch: pa.RecordBatch, column: str) -> tuple[pa.RecordBatch, Rejects]:
        names = batch[column].cast(pa.string())
        valid = pc.fill_null(pc.match_substring_regex(names, f"^{_NAME.pattern}$"), False)
        bad = np.flatnonzero(~valid.to_numpy(zero_copy_only=False)).tolist()
        reasons = [f"expected a split's name (letters, digits, '-', '_'), found {names[row].as_py()!r}" for row in bad]
        kept = batch.append_column(SPLIT, names)
        return (kept.filter(valid) if bad else kept), Rejects(bad, [column] * len(bad), reasons)


def _shares(options: SplitOptions) -> dict[str, Fraction]:
    """The exact share of each split; they sum to 1."""
    exact = {name: Fraction(str(share)) for name, share in (options.fractions or {"train": 1.0}).items()}
    return {name: share / sum(exact.values()) for name, share in exact.items()}


def _with_class(batch: pa.RecordBatch, field: str) -> pa.RecordBatch:
    classes = sample_keys([key_column(batch[field])], batch.num_rows)
    column = pa.Array.from_buffers(pa.binary(KEY_BYTES), batch.num_rows, [None, pa.py_buffer(np.ascontiguousarray(classes))])
    return batch.append_column(SPLIT, pa.repeat(pa.scalar(""), batch.num_rows)).append_column(CLASS, column)


def check_classes(found: int) -> None:
    """Raise InputError for more classes than can be held."""
    if found > MAX_CLASSES:
        raise InputError(f"split.stratify: the field has more than {MAX_CLASSES:,} different values; choose a field of classes")


def stratified_keys(seed: int, classes: npt.NDArray[np.uint8], keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What puts samples in order before their classes are cut: class, H(seed, 'split', key), key; uint8 of shape (n, 40)."""
    hashed = keyed_hash(seed, "split", keys).astype(">u8").view(np.uint8).reshape(-1, 8)
    return np.hstack([classes, hashed, keys])


def class_cuts(counts: Mapping[bytes, int], options: SplitOptions) -> list[int]:
    """The ranks, in the order of `stratified_keys`, at which all splits but the first begin: for each class in turn.

    Every class is cut by largest remainders: each split gets its share rounded down, and what is left goes, one each, to those
    that lost most by that; the first of equals first.
    """
    shares = list(_shares(options).values())
    ranks = []
    first = 0
    for _, count in sorted(counts.items()):
        exact = [share * count for share in shares]
        sizes = [int(size) for size in exact]
        losers = sorted(range(len(shares)), key=lambda split: sizes[split] - exact[split])
        for split in losers[: count - sum(sizes)]:
            sizes[split] += 1
        ranks += [first + int(end) for end in np.cumsum(sizes)[:-1]]
        first += count
    return ranks


@dataclass(frozen=True)
class StratifiedSplit:
    """Names the splits of samples once `bounds`, the keys at the ranks of `class_cuts`, are known.

    Samples of equal key are never parted: all of them are on the far side of a bound that is their key.
    """

    names: tuple[str, ...]
    classes: tuple[bytes, ...]
    bounds: tuple[bytes, ...]

    @classmethod
    def at(cls, options: SplitOptions, classes: Sequence[bytes], bounds: Sequence[bytes]) -> StratifiedSplit:
        """That of `classes`, ascending, with the bounds of each in turn."""
        return cls(tuple(_shares(options)), tuple(classes), tuple(bounds))

    def __call__(self, keys: npt.NDArray[np.uint8]) -> pa.Array:
        """The split of each sample: `keys` as `stratified_keys` gives them."""
        passed = np.searchsorted(np.array(self.bounds, bytes), as_sortable(keys), side="right")
        class_ = np.searchsorted(np.array(self.classes, bytes), as_sortable(keys[:, :KEY_BYTES]))
        return pa.array(self.names, pa.string()).take(pa.array(passed - class_ * (len(self.names) - 1)))
