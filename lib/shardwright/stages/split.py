"""split: which samples train, validate and test; a pure function of seed and key, so that no sample ever changes its split."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, model_validator

from shardwright.hashing import keyed_hash
from shardwright.hashing.sample_key import fixed_bytes, key_column, sample_keys
from shardwright.schema import Schema
from shardwright.stages import Rejects

SPLIT = "_split"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class SplitOptions(BaseModel):
    """By fractions of a keyed hash (of the sample key, or of a `group` field so that no group is in two splits), or by the
    values of an existing `column`. Without either, everything is `train`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: dict[str, float] | None = None
    group: str | None = None
    column: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> SplitOptions:
        if self.fractions is not None and self.column is not None:
            raise ValueError("expected fractions or column, found both")
        if self.group is not None and self.fractions is None:
            raise ValueError("group needs fractions")
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
        for field in (options.group, options.column):
            if field is not None:
                schema[field]  # raises SchemaError with the nearest name
        fractions = options.fractions or {"train": 1.0}
        self._names = pa.array(list(fractions), pa.string())
        total = sum(Fraction(str(share)) for share in fractions.values())
        sums = np.cumsum([Fraction(str(share)) / total for share in fractions.values()])
        self._thresholds = np.array([int(share * 2**64) for share in sums[:-1]], np.uint64)

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The batch with `_split`."""
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
