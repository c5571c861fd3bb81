"""Where every sample of a split lies: the index as arrays, for arithmetic on many samples at once.

Samples are numbered shard-major: those of the first opened shard in order, then those of the next. That number is a sample's
*index*; it is what a `Dataset` of the whole split is indexed by.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import ConfigError, CorruptError, DatasetNotFoundError
from shardwright.format.layout import INDEX
from shardwright.format.manifest import FileDigest, Manifest

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Extents:
    """The stretches that hold one field, ascending: samples `first` … `first + count` lie in part `part` from byte `offset`."""

    first: I64
    count: I64
    part: I64
    offset: I64
    stride: int
    one_per_row_group: bool

    def find(self, indexes: I64, row_groups: I64) -> I64:
        """The extent of each sample, given its row group."""
        return row_groups if self.one_per_row_group else np.searchsorted(self.first, indexes, side="right") - 1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The part files, in order: name relative to the version, bytes, first sample, samples."""

    name: tuple[str, ...]
    bytes: tuple[int, ...]
    first: I64
    samples: I64
    digests: pa.Table | None = None
    """Of each part its `sha256` and `side_files`, as the index has them."""

    def files(self, part: int) -> tuple[FileDigest, ...]:
        """A part, and the byte ranges beside it."""
        assert self.digests is not None
        (row,) = self.digests.slice(part, 1).to_pylist()
        ranges = tuple(FileDigest(**file) for file in row["side_files"] if file["name"].endswith(".npy"))
        return FileDigest(name=self.name[part], bytes=self.bytes[part], sha256=row["sha256"]), *ranges


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """The row groups, in order: first sample, samples, part, number in the part."""

    first: I64
    samples: I64
    part: I64
    number: I64

    def find(self, indexes: I64) -> I64:
        """The row group of each sample: by a table of coarse steps, two to ten times faster than a binary search."""
        shift, table = self._coarse
        found: I64 = table[indexes >> shift]
        while (later := indexes >= self._next[found]).any():  # rarely more than once: steps are smaller than row groups
            found = found + later
        return found

    @functools.cached_property
    def _coarse(self) -> tuple[int, I64]:
        """Steps of 2^shift samples, about four to a mean row group, and the row group in which each step begins."""
        total = int(self.samples.sum())
        shift = max(total // (4 * max(len(self.first), 1)), 1).bit_length() - 1
        return shift, np.searchsorted(self.first, np.arange(0, max(total, 1), 1 << shift), side="right") - 1

    @functools.cached_property
    def _next(self) -> I64:
        """The first sample past each row group."""
        return self.first + self.samples


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The opened shards of one split."""

    split: str
    shards: tuple[int, ...]
    shard_samples: tuple[int, ...]
    shard_first: I64
    parts: Parts
    row_groups: RowGroups
    extents: dict[str, Extents]

    @functools.cached_property
    def samples(self) -> int:
        """Samples in all opened shards."""
        return sum(self.shard_samples)


def _checked(shards: Sequence[object]) -> tuple[int, ...]:
    numbers = {int(shard) for shard in shards if isinstance(shard, int | np.integer)}
    if not numbers or len(numbers) < len(shards):
        raise ConfigError([f"shards: expected different numbers of shards such as [0, 2], found {shards!r}"])
    return tuple(sorted(numbers))


def read_catalog(index: pa.Table, manifest: Manifest, split: str, shards: Sequence[int] | None, *, where: str) -> Catalog:
    """The catalog of `split`, or of some of its shards, from the index at `where`.

    Raises DatasetNotFoundError for a shard that does not exist, ConfigError for `shards` that are no different numbers,
    CorruptError when index and manifest contradict each other.
    """
    sizes = [shard.samples for shard in manifest.content.splits[split].shards]
    chosen = tuple(range(len(sizes))) if shards is None else _checked(shards)
    absent = [shard for shard in chosen if not 0 <= shard < len(sizes)]
    if absent:
        raise DatasetNotFoundError(f"{where}: no shard {absent}: split {split!r} has shards 0 to {len(sizes) - 1}")
    rows = index.filter(pc.equal(index["split"], split))
    if shards is not None:
        rows = rows.filter(pc.is_in(rows["shard"], pa.array(chosen, pa.int32())))
    rows = rows.combine_chunks()
    samples = _numbers(rows["samples"])
    shard_samples = tuple(sizes[shard] for shard in chosen)
    shard_first = np.cumsum([0, *shard_samples])[:-1]
    place = np.searchsorted(chosen, _numbers(rows["shard"]))
    first = _numbers(rows["first_sample"]) + shard_first[place]
    if not np.array_equal(first, np.cumsum([0, *samples])[:-1]) or samples.sum() != sum(shard_samples):
        raise CorruptError(f"{where}: the row groups of {split!r} do not add up to the manifest's shards; restore {INDEX}")
    parts, part = _parts(rows, first, samples)
    return Catalog(
        split=split, shards=chosen, shard_samples=shard_samples, shard_first=shard_first, parts=parts,
        row_groups=RowGroups(first=first, samples=samples, part=part, number=_numbers(rows["row_group"])),
        extents=_extents(rows, first, part, where=where),
    )  # fmt: skip


def _parts(rows: pa.Table, first: I64, samples: I64) -> tuple[Parts, I64]:
    """The parts, and of each row group which part it lies in."""
    names = rows["part"].to_pylist()
    begins = [row for row, name in enumerate(names) if row == 0 or names[row - 1] != name]
    part = np.zeros(len(names), np.int64)
    part[begins[1:]] = 1
    part_bytes = rows["bytes"].take(begins).to_pylist() if begins else []
    return Parts(
        name=tuple(names[row] for row in begins), bytes=tuple(part_bytes), first=first[begins],
        samples=np.add.reduceat(samples, begins) if begins else samples,
        digests=rows.select(["sha256", "side_files"]).take(begins) if begins else None,
    ), np.cumsum(part)  # fmt: skip


def _extents(rows: pa.Table, first: I64, part: I64, *, where: str) -> dict[str, Extents]:
    row = _numbers(pc.list_parent_indices(rows["extents"]))
    flat = pc.list_flatten(rows["extents"]).combine_chunks()
    fields = pc.struct_field(flat, "field").dictionary_encode()
    code = _numbers(fields.indices)
    values = {name: _numbers(pc.struct_field(flat, name)) for name in ("first", "count", "offset", "stride")}
    part_bytes = _numbers(rows["bytes"])
    samples = int(_numbers(rows["samples"]).sum())
    out = {}
    for number, field in enumerate(fields.dictionary.to_pylist()):
        mine = np.flatnonzero(code == number)
        begins = first[row[mine]] + values["first"][mine]
        extents = Extents(
            first=begins, count=values["count"][mine], part=part[row[mine]], offset=values["offset"][mine],
            stride=int(values["stride"][mine[0]]), one_per_row_group=np.array_equal(begins, first),
        )  # fmt: skip
        ends = extents.offset + extents.count * extents.stride
        inside = (extents.offset >= 0) & (extents.count > 0) & (ends <= part_bytes[row[mine]])
        inside &= values["stride"][mine] == extents.stride
        seamless = np.array_equal(extents.first, np.cumsum([0, *extents.count])[:-1]) and extents.count.sum() == samples
        # values are read at these places without another look, so every one has to lie in its part
        if not (inside.all() and seamless):
            raise CorruptError(f"{where}: the extents of {field!r} have gaps or leave their part; restore {INDEX}")
        out[field] = extents
    return out


def _numbers(column: pa.Array | pa.ChunkedArray) -> I64:
    """A column of integers as int64."""
    numbers: I64 = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return np.asarray(numbers, np.int64)
