"""A dataset is a `Sequence` of samples."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import ConfigError, MissingDependencyError
from shardwright.format.batch import mask_name
from shardwright.format.canonical import canonical_sha256
from shardwright.format.manifest import Manifest
from shardwright.format.statistics import FieldStatistics
from shardwright.order import EpochOrder, Last, Plan, Sampling, Shuffle, World
from shardwright.reader.arrow import arrow_table
from shardwright.reader.cache import CACHE_BYTES
from shardwright.reader.catalog import Catalog
from shardwright.reader.columns import HIDDEN, Batch, Columns, check_names, open_columns
from shardwright.reader.damage import read_samples
from shardwright.reader.files import VersionFiles
from shardwright.reader.loader import Loader
from shardwright.reader.normalise import NormaliseOption, check_normalise, inverse, normalising
from shardwright.reader.options import LoaderOptions, OnError
from shardwright.reader.where import find
from shardwright.schema import Field, Schema
from shardwright.storage.part_cache import CachePlace
from shardwright.transforms import Geometry

I64 = npt.NDArray[np.int64]
_ROWS_AT_ONCE = 256
_SCALARS_AT_ONCE = 65536


@dataclass(frozen=True, kw_only=True)
class Source:
    """Some columns of some shards of one split of one version."""

    url: str
    version: str
    manifest: Manifest
    catalog: Catalog
    names: tuple[str, ...]
    cache_bytes: int = CACHE_BYTES
    """So much of what was decompressed is kept in memory, with footers and side files of remote parts."""
    encoded: bool = False
    """Whether pictures are read as the bytes that they are stored as."""
    origin: str | None = None
    """Where what is missing at a local `url` is read."""
    cache: CachePlace | None = None
    """Where remote parts are kept on this node."""
    served: tuple[int, ...] | None = None
    """The parts that are read, where others may be missing; None: all."""

    @functools.cached_property
    def schema(self) -> Schema:
        """All fields, as they are read."""
        schema = self.manifest.content.dataset_schema
        if not self.encoded:
            return schema
        plain = (Field(name=f.name, dtype="bytes", nullable=f.nullable) if f.is_image else f for f in schema)
        return Schema(fields=tuple(plain))

    @functools.cached_property
    def columns(self) -> Columns:
        """The opened columns; files are opened when their first value is read."""
        return open_columns(self.catalog, self.schema, self.names, self.files(), self.cache_bytes)

    def files(self) -> VersionFiles:
        """The files of the version, opened anew."""
        return VersionFiles(
            self.url, self.version, self.catalog.parts, origin=self.origin, cache=self.cache,
            content_id=self.manifest.content_id, served=self.served,
        )  # fmt: skip

    def settled(self, shards: Sequence[int]) -> Source:
        """For reading `shards` (by their number among those opened): mapped, if by now all their parts lie on this node.

        Otherwise this source itself. Samples and their order are the same.
        """
        files, parts = self.columns.files, self.catalog.parts
        if files.local or (self.origin is None and self.cache is None):
            return self
        shard = np.searchsorted(self.catalog.shard_first, parts.first, side="right") - 1
        served = tuple(np.flatnonzero(np.isin(shard, shards)).tolist())
        return dataclasses.replace(self, served=served) if files.on_node(served) else self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "columns"}  # another process opens its own


class Dataset(Sequence[dict[str, Any]]):
    """The samples of a split, or a selection of them, by index: shard after shard, each in its order on disk.

    Made by `open_dataset`. A sample is a dict of decoded values: NumPy scalars and arrays, str, bytes, None where null. A
    dataset can be sent to another process, which opens its own files.
    """

    def __init__(self, source: Source, selection: range | I64 | None = None) -> None:
        self.source = source
        self._selection = selection

    @property
    def manifest(self) -> Manifest:
        """The manifest of the version."""
        return self.source.manifest

    @functools.cached_property
    def schema(self) -> Schema:
        """The fields that are read: none, where only ``_key`` or ``_pad`` are."""
        schema = self.source.schema
        return Schema.model_construct(fields=tuple(schema[name] for name in self.source.names if name not in HIDDEN))

    @property
    def statistics(self) -> dict[str, FieldStatistics]:
        """The exact statistics of each field, over the split that the manifest names (train)."""
        return self.manifest.content.statistics.fields

    def __len__(self) -> int:
        return self.source.catalog.samples if self._selection is None else len(self._selection)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Dataset:
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        index, samples = operator.index(index), len(self)
        if not -samples <= index < samples:
            raise IndexError(f"sample {index} of {samples}")
        return self._rows(np.array([index % samples], np.int64))[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples `indices`, by one `take`: how PyTorch's DataLoader asks for those of a batch."""
        return self._rows(self._checked(indices))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield from self._rows(np.arange(start, min(start + _ROWS_AT_ONCE, len(self)), dtype=np.int64))

    def __repr__(self) -> str:
        source = self.source
        names = ", ".join(source.names)
        return f"<Dataset {source.url} {source.version} {source.catalog.split}: {len(self)} samples of {names}>"

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Batch:
        """The samples `indices` (n of them; negative ones count from the end), in that order, one array of length n a column.

        docs/reader.md says which array each kind of field gives. Raises IndexError for an index outside of the dataset,
        CorruptError for a part that is missing or damaged, DecodeError for a value that is not what the schema declares.
        """
        return read_samples(self.source, self.on_disk(self._checked(indices)))

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Dataset:
        """The dataset of the samples `indices`, in that order. Raises IndexError for an index outside of this one."""
        if isinstance(indices, range) and (not len(indices) or min(indices) >= 0):
            self._checked([*indices[:1], *indices[-1:]])
            if indices == range(len(self)):
                return self
            if not isinstance(self._selection, np.ndarray):
                return Dataset(self.source, indices if self._selection is None else _compose(self._selection, indices))
        return Dataset(self.source, _as_range(self.on_disk(self._checked(indices))))

    def where(self, predicate: pc.Expression | str) -> Dataset:
        """The dataset of the samples that `predicate` is true of, in the order of this one; null is not true.

        A predicate asks for scalar fields (numbers, bool, string, timestamp), read or not, as they are stored: a
        `pyarrow.compute.Expression`, or text such as ``label < 10 and source != 'x' and score is not null``. Its columns are
        scanned once, now, without the row groups that can't hold such a sample by their statistics.

        Raises PredicateError for a predicate that can't be, CorruptError for a part that is missing or damaged.
        """
        found = find(self.source, predicate, self.on_disk(np.arange(len(self)))).indexes
        return self if len(found) == len(self) else Dataset(self.source, _as_range(found))

    def reading(self, *columns: str, encoded: bool = False) -> Dataset:
        """The same samples with these columns alone, or with none given the same; `encoded`: pictures as their stored bytes.

        Raises SchemaError for unknown columns.
        """
        plan = self.manifest.content.plan
        names = check_names(self.source.schema, columns or self.source.names, padded=plan.remainder == "pad")
        return Dataset(dataclasses.replace(self.source, names=names, encoded=encoded or self.source.encoded), self._selection)

    def iter_arrow(self, batch_size: int = 1024, *, encoded: bool = False) -> Iterator[pa.Table]:
        """The samples in order as Arrow tables of `batch_size` rows; `encoded`: pictures as their stored bytes.

        `shardwright.reader.arrow` says what each field becomes. Raises ConfigError unless `batch_size` is at least 1.
        """
        if batch_size < 1:
            raise ConfigError([f"batch_size: expected at least 1, found {batch_size!r}"])
        chosen = self.reading(encoded=encoded)
        for start in range(0, len(self), batch_size):
            yield arrow_table(chosen.take(range(start, min(start + batch_size, len(self)))), chosen.schema)

    def to_arrow(
        self, indices: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None, *, encoded: bool = False
    ) -> pa.Table:
        """The samples `indices` (None: all), in that order, as one Arrow table: see `iter_arrow`. Raises as `take` does."""
        chosen = self.reading(encoded=encoded)
        if indices is not None:
            return arrow_table(chosen.take(indices), chosen.schema)
        rows = _ROWS_AT_ONCE if any(field.shape for field in chosen.schema) else _SCALARS_AT_ONCE
        return pa.concat_tables([arrow_table(chosen.take([]), chosen.schema), *chosen.iter_arrow(rows, encoded=encoded)])

    def to_pandas(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None) -> Any:
        """`to_arrow` as a pandas.DataFrame: for tables of scalars.

        Whole numbers and bools with nulls are Python objects and None there, so that none of them is rounded; an array is its
        elements in C order. Raises MissingDependencyError where pandas is not installed.
        """
        if importlib.util.find_spec("pandas") is None:
            raise MissingDependencyError("to_pandas needs pandas: pip install 'shardwright[pandas]'")
        return self.to_arrow(indices).to_pandas(integer_object_nulls=True)

    def inverse(self, batch: Batch, *, normalise: NormaliseOption = False) -> Batch:
        """`batch` with the values that fields had before they were transformed at write, and before a loader normalised them.

        `normalise` is what that loader was given; `Loader.inverse` knows it. Fields transformed at write get back the dtype
        that they had (whole numbers are rounded), normalised ones that of the schema. Other columns stay as they are. A value
        that was unknown to a vocabulary is None, or for numbers and bools True in ``<name>_mask``.

        Raises SchemaError for a field in `normalise` that can't be normalised, or values that no transform gives.
        """
        return inverse(self, batch, normalising(self, check_normalise(normalise)))

    def loader(
        self,
        *,
        batch_size: int,
        world: World | None = None,
        seed: int = 0,
        shuffle: Shuffle = "window",
        window_blocks: int | None = None,
        last: Last = "short",
        epochs: int | None = None,
        normalise: NormaliseOption = False,
        decode: Mapping[str, Geometry] | None = None,
        transform: Callable[[Batch], Batch] | None = None,
        node_local: bool = False,
        on_error: OnError = "raise",
        sampling: Sampling | None = None,
        samples_per_epoch: int | None = None,
        memory_limit_bytes: int = 2**30,
        threads: int | None = None,
    ) -> Loader:
        """Batches of `batch_size` samples for this rank, in an order that depends on `seed` and epoch alone.

        `world` defaults to `World.from_env()`, `window_blocks` to the manifest's plan. `epochs` ends the loader after that many
        (None: never). `decode` says of fields of encoded pictures which part is wanted at which size: a `CenterCrop`,
        `RandomCrop`, `RandomResizedCrop` or `Resize`; random ones depend on seed, epoch and sample alone. `normalise` names the
        fields that become (x - mean) / std, float32, or gives each a (mean, std) of one's own; True: those that the manifest
        standardises. `transform` gets each batch, and returns it. `node_local` reads nothing but this node's own shards.

        With `on_error="replace"` a value that can't be decoded does not raise DecodeError: another sample, the same on every
        machine, takes the place of its sample, and is counted. `sampling`, a `Balanced` or `Weighted`, decides which samples an
        epoch has, `samples_per_epoch` how many (None: as many as the dataset has); without, an epoch has every sample once.

        Remote parts are fetched ahead of the trainer, and batches that take work (decoding, normalising, a transform) are made
        ahead of it by `threads` threads, and one that runs the transform; None: this rank's share of the processors, at most 8;
        0: all is done in the caller's thread, when it asks. `memory_limit_bytes` bounds what is held for all that, and decides
        how much is fetched in one request, never the order. Local parts are mapped.

        Raises ConfigError for options that can't be, WorldError where ranks, nodes, shards and samples don't fit together.
        """
        options = LoaderOptions(
            batch_size=batch_size, world=World.from_env() if world is None else world, seed=seed, shuffle=shuffle,
            window_blocks=window_blocks, last=last, epochs=epochs, normalise=check_normalise(normalise),
            decode={} if decode is None else decode, transform=transform,
            node_local=node_local, on_error=on_error, sampling=sampling, samples_per_epoch=samples_per_epoch,
            memory_limit_bytes=memory_limit_bytes, threads=threads,
        )  # fmt: skip
        return Loader(self, options)

    @functools.cached_property
    def selection(self) -> str | None:
        """A hash of which samples of the split these are, and in which order; None for all of them, as they are."""
        catalog = self.source.catalog
        every = len(self.manifest.content.splits[catalog.split].shards)
        if self._selection is None and len(catalog.shards) == every:
            return None
        chosen = self._selection
        if isinstance(chosen, range):
            indexes: object = [chosen.start, len(chosen), chosen.step if len(chosen) > 1 else 1]
        else:
            indexes = None if chosen is None else hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()
        return canonical_sha256({"shards": list(catalog.shards), "indexes": indexes})

    @property
    def whole(self) -> bool:
        """Whether these are all samples of the shards opened, as they lie there."""
        return self._selection is None

    def plan(self, seed: int, shuffle: Shuffle, window_blocks: int | None) -> Plan:
        """What the order of this dataset depends on besides the epoch."""
        plan, catalog = self.manifest.content.plan, self.source.catalog
        whole = self.whole
        return Plan(
            content_id=self.manifest.content_id,
            seed=seed,
            # of an explicit selection no stretch lies together on disk: its window is all of it
            shuffle=shuffle if whole or shuffle == "none" else "global",
            shards=catalog.shards if whole else (0,),
            samples=catalog.shard_samples if whole else (len(self),),
            block_samples=plan.block_samples,
            window_blocks=window_blocks or plan.window_blocks,
        )

    def at(self, order: EpochOrder, positions: I64) -> I64:
        """Where on disk the samples at `positions` of an epoch's order lie, for `source.columns`."""
        places, numbers = order(positions)
        return self.source.catalog.shard_first[places] + numbers if self._selection is None else self.on_disk(numbers)

    def on_disk(self, indexes: I64) -> I64:
        """Where on disk the samples `indexes` of this dataset (not negative) lie, for `source.columns`."""
        if isinstance(self._selection, range):
            return self._selection.start + self._selection.step * indexes
        return indexes if self._selection is None else self._selection[indexes]

    def _checked(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> I64:
        found = np.asarray(indices)
        if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
            raise IndexError(f"expected a sequence of whole numbers, found {found.dtype} of shape {found.shape}")
        indexes: I64 = found.astype(np.int64)
        outside = (indexes < -len(self)) | (indexes >= len(self))
        if outside.any():
            raise IndexError(f"sample {indexes[outside][0]} of {len(self)}")
        return np.where(indexes < 0, indexes + len(self), indexes)

    def _rows(self, indexes: I64) -> list[dict[str, Any]]:
        batch = read_samples(self.source, self.on_disk(indexes))
        for name in self._nullable:
            mask = batch.pop(mask_name(name), None)
            if mask is not None:
                values = np.empty(len(mask), object)
                values[:] = [None if missing else value for value, missing in zip(batch[name], mask, strict=True)]
                batch[name] = values
        return [{name: values[row] for name, values in batch.items()} for row in range(len(indexes))]

    @functools.cached_property
    def _nullable(self) -> list[str]:
        return [field.name for field in self.schema if field.nullable]


def _as_range(indexes: I64) -> range | I64:
    """An arithmetic progression as a range: smaller, and the same selection however it was written."""
    if not len(indexes):
        return range(0)
    step = int(indexes[1] - indexes[0]) if len(indexes) > 1 else 1
    if step == 0 or (np.diff(indexes) != step).any():
        return indexes
    first = int(indexes[0])
    return range(first, first + step * len(indexes), step)


def _compose(outer: range, inner: range) -> range:
    """outer[i] for i in inner, as a range."""
    return outer[inner.start : inner.stop if inner.stop >= 0 else None : inner.step] if len(inner) else range(0)
