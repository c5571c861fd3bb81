"""What becomes of values on their way into a batch: of pictures a part is wanted, numbers are normalised."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from shardwright.codecs.view import View, ViewOf
from shardwright.errors import ConfigError, SchemaError
from shardwright.hashing import mix64
from shardwright.order import Plan
from shardwright.reader.catalog import Catalog
from shardwright.schema import Field, Schema
from shardwright.transforms import DRAWS, Geometry, Normalise

I64 = npt.NDArray[np.int64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_COUNTERS = np.arange(1, DRAWS + 1, dtype=np.uint64) * _GOLDEN
_SHARD_BITS = np.uint64(40)
_UNIT = 2.0**-53


class Views:
    """Which part is wanted of each picture of a batch."""

    def __init__(self, geometry: Geometry, draws: list[list[float]] | None) -> None:
        self._geometry, self._draws = geometry, draws

    def of(self, row: int) -> ViewOf:
        """That of the picture in `row`."""
        geometry, draws = self._geometry, () if self._draws is None else self._draws[row]

        def view(height: int, width: int) -> View:
            return geometry.view(height, width, draws)

        return view


class Finish(NamedTuple):
    """What is done with the values of one field of a batch; `size` is that of its pictures, (height, width)."""

    normalise: Normalise | None = None
    views: Views | None = None
    size: tuple[int, int] | None = None

    def shape(self, field: Field) -> tuple[int | None, ...]:
        """That of each value in the batch, None for a dimension that varies."""
        return field.shape if self.size is None else (*self.size, *field.shape[2:])


AS_STORED = Finish()


@dataclass(frozen=True, kw_only=True)
class Finishing:
    """What a loader asks for, field by field."""

    normalise: Mapping[str, Normalise]
    geometry: Mapping[str, Geometry]
    plan: Plan
    catalog: Catalog
    repeats: bool
    """Whether a sample can come several times in an epoch, each time with other draws."""

    def of(self, epoch: int, positions: I64, indexes: I64) -> Mapping[str, Finish]:
        """That for the samples at `positions`, which lie at `indexes` on disk: a pure function of seed, epoch and sample.

        Draw k of a sample is the upper 53 bits of mix(mix(key ^ sample) + k * 0x9E3779B97F4A7C15), k from 1, as a share of
        2^53. `sample` has the number of the shard in its upper 24 bits and that in the shard in the lower 40; where samples
        repeat, it is mix(sample) ^ position. The key is XXH3-64(text, seed), text being the UTF-8 bytes of
        ``decode/{content_id}/{epoch}/{field}``; mix as in `shardwright.hashing`.
        """
        if not self.geometry:
            return self._normalised
        out = dict(self._normalised)
        samples: npt.NDArray[np.uint64] | None = None
        for name, geometry in self.geometry.items():
            draws = None
            if geometry.random:
                samples = self._samples(positions, indexes) if samples is None else samples
                text = f"decode/{self.plan.content_id}/{epoch}/{name}"
                key = np.uint64(xxhash.xxh3_64_intdigest(text.encode(), seed=self.plan.seed))
                words = mix64(mix64(samples ^ key)[:, None] + _COUNTERS)
                draws = ((words >> np.uint64(11)) * _UNIT).tolist()
            out[name] = Finish(self.normalise.get(name), Views(geometry, draws), geometry.wanted)
        return out

    @functools.cached_property
    def _normalised(self) -> dict[str, Finish]:
        return {name: Finish(normalise=normalise) for name, normalise in self.normalise.items()}

    def schema(self, schema: Schema) -> Schema:
        """`schema` with the shapes that pictures have in batches."""
        fields = [
            field.model_copy(update={"shape": (*self.geometry[field.name].wanted, *field.shape[2:])})
            if field.name in self.geometry else field
            for field in schema
        ]  # fmt: skip
        return Schema.model_construct(fields=tuple(fields))

    def _samples(self, positions: I64, indexes: I64) -> npt.NDArray[np.uint64]:
        catalog = self.catalog
        place = np.searchsorted(catalog.shard_first, indexes, side="right") - 1
        shard = np.asarray(catalog.shards, np.uint64)[place]
        samples: npt.NDArray[np.uint64] = (shard << _SHARD_BITS) + (indexes - catalog.shard_first[place]).astype(np.uint64)
        return mix64(samples) ^ positions.astype(np.uint64) if self.repeats else samples


def check_geometry(schema: Schema, decode: Mapping[str, Geometry]) -> None:
    """Raise ConfigError for what is no geometry, SchemaError for a field that is unknown or has no pictures that can be cut."""
    example = 'decode={"image": sw.CenterCrop(224)}'
    if not isinstance(decode, Mapping):
        raise ConfigError([f"decode: expected fields and what is wanted of each, such as {example}, found {decode!r}"])
    for name, geometry in decode.items():
        if isinstance(geometry, type) or not hasattr(geometry, "view"):
            raise ConfigError([f"decode: field {name!r}: expected a geometry, such as {example}, found {geometry!r}"])
        field = schema[name]
        if not field.is_image:
            found = "its pictures are read as stored bytes" if field.dtype == "bytes" else f"it holds {field.dtype} values"
            raise SchemaError(f"decode: field {name!r}: expected encoded pictures, but {found}; cut those in transform=")
        if field.nullable or None in field.shape[2:]:
            found = "may be missing" if field.nullable else "have a varying number of channels"
            raise SchemaError(f"decode: field {name!r}: its pictures {found}, so they fit no array; cut them in transform=")
