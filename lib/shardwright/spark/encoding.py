"""What becomes of the values of each field between staging and a part: transformed, encoded, measured. Runs without Spark."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from shardwright.codecs import is_lossless
from shardwright.format.layout import Column, column, columns
from shardwright.format.manifest import Compression, Transform
from shardwright.format.values import Values, pack, unpack
from shardwright.schema import Field, Schema
from shardwright.stages.compress import CompressionSums, CompressOptions
from shardwright.stages.standardise import CollectStatistics, StandardiseOptions, transformed
from shardwright.transforms import Apply


@dataclass(frozen=True)
class FieldPath:
    """One field: as it is staged, after its transform, and as it is stored."""

    staged: Field
    transform: Transform | None
    standardised: Field
    stored: Field
    measured: bool
    """Whether what its compression does is measured."""

    @property
    def changed(self) -> bool:
        """Whether the stored bytes are others than the staged ones."""
        return self.transform is not None or self.stored != self.staged

    @property
    def lossy(self) -> bool:
        """Whether encoding changes values."""
        return self.stored != self.standardised and not is_lossless(self.stored)


@dataclass(frozen=True)
class Encoding:
    """All fields of a dataset; small, goes to the executors."""

    paths: tuple[FieldPath, ...]
    standardise: StandardiseOptions
    compress: CompressOptions

    @classmethod
    def plan(
        cls, schema: Schema, standardise: StandardiseOptions, compress: CompressOptions, transforms: Sequence[Transform]
    ) -> Encoding:
        """The encoding of a dataset, once what is transformed at write has been fitted."""
        fitted = {transform.field: transform for transform in transforms}
        policies = standardise.at_write()
        paths = []
        for field in schema:
            policy = policies.get(field.name)
            middle = transformed(field, policy, fitted[field.name]) if policy else field
            paths.append(
                FieldPath(field, fitted.get(field.name), middle, compress.stored(middle), field.name in compress.fields)
            )
        return cls(tuple(paths), standardise, compress)

    @property
    def schema(self) -> Schema:
        """The stored schema."""
        return Schema(fields=tuple(path.stored for path in self.paths))

    @property
    def changed(self) -> bool:
        """Whether any stored bytes are others than the staged ones, and sizes with them."""
        return any(path.changed for path in self.paths)

    def layout(self, *, pad: bool) -> tuple[Column, ...]:
        """The columns of a part."""
        return columns(self.schema, compressed=self.compress.column_codecs, default=self.compress.columns, pad=pad)

    def collector(self) -> CollectStatistics:
        """What collects the statistics of the stored values, and what is fitted to them."""
        at_read = self.standardise.at_read()
        ranked = tuple(name for name, policy in at_read.items() if policy.method == "robust")
        return CollectStatistics(self.schema, decoded=tuple(at_read), ranked=ranked)

    def sums(self) -> dict[str, CompressionSums]:
        """What measures the compression of each field that declares one."""
        return {p.stored.name: CompressionSums(p.standardised, lossy=p.lossy) for p in self.paths if p.measured}


class Encoder:
    """Encodes samples for one part and gathers what is to be known of them. Not thread-safe."""

    def __init__(self, encoding: Encoding, layout: Sequence[Column], *, statistics: bool) -> None:
        self._paths = encoding.paths
        by_name = {each.name: each for each in layout}
        self._columns = [by_name[path.stored.name] for path in self._paths]
        self._apply = {
            path.stored.name: Apply(path.transform, path.standardised) for path in self._paths if path.transform is not None
        }
        self._statistics = encoding.collector() if statistics else None
        self._sums = encoding.sums()
        self.fetched = tuple(
            bare_column(path.staged) if path.changed else own for path, own in zip(self._paths, self._columns, strict=True)
        )
        """The columns as which samples are to be fetched: those that are stored as they are with their header in place."""

    def encode(self, staged: Sequence[pa.Array], real: int) -> dict[str, pa.Array]:
        """The stored arrays of samples, from one array per column of `fetched`; all but the first `real` are repetitions."""
        out, seen = {}, {}
        for path, own, array in zip(self._paths, self._columns, staged, strict=True):
            out[own.name], seen[own.name] = self._encode(path, own, array)
        if self._statistics:
            self._statistics.update({name: _first(values, real) for name, values in seen.items()})
        return out

    def statistics(self) -> dict[str, Any]:
        """The summaries of the stored values, as plain JSON; empty where they are not asked for."""
        return self._statistics.to_json() if self._statistics else {}

    def compression(self) -> dict[str, Any]:
        """The sums of every field whose compression is measured, as plain JSON."""
        return {name: sums.to_json() for name, sums in self._sums.items()}

    def _encode(self, path: FieldPath, own: Column, array: pa.Array) -> tuple[pa.Array, Values]:
        """The stored array, and the values that are to be found in it (or the array, where nobody decoded it)."""
        sums = self._sums.get(own.name)
        if not path.changed:
            if sums:
                sums.update(_undecoded(path.stored, array), None)
            return array, array
        values = unpack(path.staged, array)
        if path.transform is not None:
            values = self._apply[own.name](values)
        stored = pack(path.stored, values, own)
        decoded = unpack(path.stored, stored) if path.lossy else values
        if sums:
            sums.update(values, decoded if path.lossy else None)
        return stored, decoded


def bare_column(field: Field) -> Column:
    """The column as which values are fetched to be computed with: without a header."""
    own = column(field)
    return dataclasses.replace(own, header=b"", stride=own.stride - len(own.header))


def _undecoded(field: Field, array: pa.Array) -> Values:
    """The values of an unchanged column, where pictures count with the bytes they have."""
    return array if field.encoded else unpack(field, array)


def _first(values: Values, count: int) -> Values:
    return values.slice(0, count) if isinstance(values, pa.Array) else values[:count]


def compression(
    encoding: Encoding, reports: Sequence[Mapping[str, Any]], stored_bytes: Mapping[str, int]
) -> dict[str, Compression]:
    """What compression made of every field that declares one, from the reports of all parts."""
    out = {}
    for name, sums in encoding.sums().items():
        for report in reports:
            sums.merge(report[name])
        out[name] = sums.finish(encoding.compress.fields[name], stored_bytes[name])
    return out
