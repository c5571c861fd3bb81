"""What is different between two versions: schema, samples by key, statistics, transforms, plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.format.layout import KEY
from shardwright.format.manifest import Manifest
from shardwright.format.statistics import FieldStatistics
from shardwright.format.versions import read_index, read_manifest
from shardwright.hashing import KEY_BYTES
from shardwright.hashing.sample_key import key_column, sample_keys
from shardwright.reader.stored import part_files, stored_samples
from shardwright.reader.verify_part import parts_of
from shardwright.schema import Schema
from shardwright.storage import open_storage

_NUMBERS = ("count", "missing", "mean", "std", "min", "max")
Change = tuple[Any, Any]
"""Before and after; None where there is nothing."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What became of the samples, pads left out: of the first version `removed`, and of the second `added`.

    `moved` of those in both are in another split, `changed` have other values (None: values were not compared, or no field
    is the same in both).
    """

    before: int
    after: int
    added: int
    removed: int
    moved: int
    changed: int | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """All that is different; everything is empty where `same`."""

    before: str
    after: str
    same: bool
    """Whether both have one content_id: then they are equal to the byte."""
    content_id: Change
    fields: dict[str, Change] = field(default_factory=dict)
    splits: dict[str, Change] = field(default_factory=dict)
    """Samples of each split whose number changed."""
    samples: Samples | None = None
    statistics: dict[str, dict[str, Change]] = field(default_factory=dict)
    """Field -> what of count, missing, mean, std, min, max changed, and `label <value>` for counts of labels."""
    transforms: dict[str, Change] = field(default_factory=dict)
    plan: dict[str, Change] = field(default_factory=dict)


@dataclass(frozen=True)
class _Version:
    url: str
    name: str
    manifest: Manifest

    @classmethod
    def open(cls, url: str, version: str) -> _Version:
        storage = open_storage(url)
        return cls(storage.url, *read_manifest(storage, version))

    def __str__(self) -> str:
        return f"{self.url} {self.name}"

    @property
    def split_samples(self) -> dict[str, int]:
        return {name: split.samples - split.padded for name, split in self.manifest.content.splits.items()}

    def keys(self) -> pa.Table:
        """The key and split of every sample, pads left out."""
        return pa.concat_tables(
            pa.table({"key": batch[KEY], "split": pa.repeat(pa.scalar(split), batch.num_rows)})
            for split, batch in self._samples([])
        )

    def values(self, names: Sequence[str]) -> pa.Table:
        """The key of every sample, and a hash of its stored values in `names`; pads left out."""
        return pa.concat_tables(
            pa.table({"key": batch[KEY], "value": _binary(sample_keys([key_column(batch[n]) for n in names], batch.num_rows))})
            for _, batch in self._samples(names)
        )

    def _samples(self, names: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The split of samples, and their keys and stored values."""
        schema = self.manifest.content.dataset_schema
        for part in parts_of(read_index(open_storage(self.url), self.name, self.manifest)):
            files = part_files(self.url, self.name, part.name, part.digest.bytes)
            for batch in stored_samples(files, 0, schema, [*names, KEY]):
                yield part.split, batch


def diff(before: str, after: str, *, version: str = "latest", to: str = "latest", values: bool = False) -> Difference:
    """What is different between `version` of the dataset at `before` and version `to` of that at `after`.

    Samples are compared by key, all of which are held in memory (some 100 bytes a sample); with `values` all stored values are
    read too, so that samples of one key and other contents are found. Raises DatasetNotFoundError, CorruptError.
    """
    one, two = _Version.open(before, version), _Version.open(after, to)
    ids = (one.manifest.content_id, two.manifest.content_id)
    if ids[0] == ids[1]:
        return Difference(before=str(one), after=str(two), same=True, content_id=ids)
    first, second = one.manifest.content, two.manifest.content
    fields = [{f.name: f.model_dump(mode="json") for f in content.dataset_schema} for content in (first, second)]
    transforms = [{t.field: t.model_dump(mode="json") for t in content.transforms} for content in (first, second)]
    return Difference(
        before=str(one), after=str(two), same=False, content_id=ids,
        fields=_changes(*fields),
        splits=_changes(one.split_samples, two.split_samples),
        samples=_samples(one, two, values=values),
        statistics=_drift(first.statistics.fields, second.statistics.fields),
        transforms=_changes(*transforms),
        plan=_changes(first.plan.model_dump(mode="json"), second.plan.model_dump(mode="json")),
    )  # fmt: skip


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Change]:
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _samples(one: _Version, two: _Version, *, values: bool) -> Samples:
    before, after = one.keys(), two.keys()
    both = _in_both(before, after, ["key"])
    same_split = _in_both(before, after, ["key", "split"])
    changed = None
    names = _comparable(one.manifest.content.dataset_schema, two.manifest.content.dataset_schema)
    if values and names:
        changed = both - _in_both(one.values(names), two.values(names), ["key", "value"])
    return Samples(
        before=len(before), after=len(after), added=len(after) - both, removed=len(before) - both, moved=both - same_split,
        changed=changed,
    )  # fmt: skip


def _comparable(one: Schema, two: Schema) -> list[str]:
    """The fields that both have, in the same form."""
    return [name for name in one.names if name in two and one[name] == two[name]]


def _in_both(one: pa.Table, two: pa.Table, names: list[str]) -> int:
    """How many rows of one table have a partner of the same `names` in the other, one each."""
    counted = [table.select(names).group_by(names).aggregate([([], "count_all")]) for table in (one, two)]
    pairs = counted[0].join(counted[1], names, join_type="inner", right_suffix="_2")
    return pc.sum(pc.min_element_wise(pairs["count_all"], pairs["count_all_2"])).as_py() or 0


def _drift(before: dict[str, FieldStatistics], after: dict[str, FieldStatistics]) -> dict[str, dict[str, Change]]:
    out = {}
    for name in sorted(before.keys() & after.keys()):
        numbers = [{key: getattr(found, key) for key in _NUMBERS} for found in (before[name], after[name])]
        labels = [_labels(found) for found in (before[name], after[name])]
        changed = {**_changes(*numbers), **_changes(*labels)}
        if changed:
            out[name] = changed
    return out


def _labels(found: FieldStatistics) -> dict[str, int]:
    if found.labels is None:
        return {}
    return {f"label {value!r}": count for value, count in zip(found.labels.values, found.labels.counts, strict=True)}


def _binary(keys: np.ndarray[Any, np.dtype[np.uint8]]) -> pa.Array:
    data = np.ascontiguousarray(keys)
    return pa.Array.from_buffers(pa.binary(KEY_BYTES), len(data), [None, pa.py_buffer(data)])
