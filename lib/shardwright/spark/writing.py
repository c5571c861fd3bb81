"""The writing pass: the index rows of one part in; out come the part's files in staging, and a report. Executors run it.

Everything here is a function over Arrow batches and runs without Spark.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.format.index import Extent
from shardwright.format.layout import KEY, PAD, Column
from shardwright.format.part import PartWriter
from shardwright.hashing import KEY_BYTES
from shardwright.hashing.places import as_matrix, as_sortable, keys_of
from shardwright.spark.encoding import Encoder, Encoding
from shardwright.spark.exchange import Exchange
from shardwright.spark.index import IndexFiles
from shardwright.spark.reading import REPORT, encoded_bytes
from shardwright.stages.shard import PartPlan
from shardwright.storage.local import clear_errors

PART = "part"
_PAD_FLAG = "pad"
_CHUNKS = 8
"""A row group is fetched in so many pieces where samples are encoded: decoded pictures take ten times their bytes, and more."""


@dataclass(frozen=True)
class SplitRoutes:
    """Which part takes which place keys of one split.

    `firsts` are the place keys at which the parts begin, ascending, `end` the one past the last part; `pads` are the place keys
    of the samples that are repeated, with the numbers of the parts that get them.
    """

    first_part: int
    firsts: tuple[bytes, ...]
    end: bytes
    pads: tuple[tuple[bytes, int], ...]


def routes(parts: Sequence[PartPlan], keys: Mapping[str, Mapping[int, bytes]]) -> dict[str, SplitRoutes]:
    """The routes of every split: `keys` holds the place key at each boundary rank."""
    out = {}
    for split in sorted({part.split for part in parts}):
        own = [(number, part) for number, part in enumerate(parts) if part.split == split]
        known = keys[split]
        out[split] = SplitRoutes(
            first_part=own[0][0],
            firsts=tuple(known[part.first] for _, part in own),
            end=known[own[-1][1].stop],
            pads=tuple((known[pad], number) for number, part in own for pad in part.pads),
        )
    return out


def routed_schema(exchange: Exchange) -> pa.Schema:
    """What goes through the shuffle: the number of the part, and what finds and orders the sample."""
    head = [(PART, pa.int32()), (_PAD_FLAG, pa.bool_()), ("place_key", pa.binary()), ("bytes", pa.int64())]
    return pa.schema([*head, *exchange.columns])


@dataclass(frozen=True)
class RoutePass:
    """Gives every index row the number of its part; drops what is left over; repeats what is padded."""

    index: IndexFiles
    routes: dict[str, SplitRoutes]
    exchange: Exchange

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Numbers of index files to routed rows."""
        schema = routed_schema(self.exchange)
        for batch in self.index.read(numbers, ["split", *schema.names[2:]]):
            for split, route in self.routes.items():
                own = batch.filter(pc.equal(batch["split"], split))
                for number, pad, rows in self._parts(route, own):
                    columns_ = {
                        PART: pa.array(number, pa.int32()),
                        _PAD_FLAG: pa.repeat(pa.scalar(pad), rows.num_rows),
                        **{name: rows[name] for name in schema.names[2:]},
                    }
                    yield pa.RecordBatch.from_pydict(columns_, schema)

    def _parts(self, route: SplitRoutes, batch: pa.RecordBatch) -> Iterator[tuple[npt.NDArray[np.int64], bool, pa.RecordBatch]]:
        if not batch.num_rows:
            return
        keys = as_sortable(as_matrix(batch["place_key"]))
        kept = keys < np.bytes_(route.end)
        numbers = np.searchsorted(np.array(route.firsts), keys, side="right") - 1 + route.first_part
        yield numbers[kept], False, batch.filter(pa.array(kept))
        if route.pads:
            firsts, into = np.array([key for key, _ in route.pads]), np.array([number for _, number in route.pads])
            which = np.minimum(np.searchsorted(firsts, keys), len(firsts) - 1)
            again = np.flatnonzero(firsts[which] == keys)
            yield into[which[again]], True, batch.take(pa.array(again))


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """What one part turned out to be, and the names of its files in staging."""

    number: int
    file: str
    bytes: int
    sha256: str
    row_group_samples: tuple[int, ...]
    extents: tuple[tuple[Extent, ...], ...]
    ranges: dict[str, tuple[str, int, str]]
    """Field of varying length -> side file in staging, bytes, sha256."""
    sample_bytes: int
    """Of all samples as encoded, before Parquet compresses columns."""
    column_bytes: dict[str, int] = field(default_factory=dict)
    """Field -> bytes of its column in the file."""
    statistics: dict[str, Any] = field(default_factory=dict)
    compression: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PartReport:
        """What `to_json` gave."""
        plain = json.loads(text)
        plain["row_group_samples"] = tuple(plain["row_group_samples"])
        plain["extents"] = tuple(tuple(Extent(**extent) for extent in group) for group in plain["extents"])
        plain["ranges"] = {name: tuple(file) for name, file in plain["ranges"].items()}
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class WritePass:
    """The writing pass as one function over batches, for `mapInArrow`: one partition is one part."""

    encoding: Encoding
    parts: tuple[PartPlan, ...]
    padded: dict[str, int]
    exchange: Exchange
    directory: Path
    row_group_bytes: int
    statistics_split: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the part of one partition; one report."""
        table = pa.Table.from_batches(batches, routed_schema(self.exchange)).combine_chunks()
        if not table.num_rows:
            return
        number = table[PART][0].as_py()
        report = self._write(number, table.take(pa.array(_order(table))))
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)

    def _write(self, number: int, refs: pa.Table) -> PartReport:
        split = self.parts[number].split
        layout = self.encoding.layout(pad=bool(self.padded[split]))
        encoder = Encoder(self.encoding, layout, statistics=split == self.statistics_split)
        path = self.directory / f"{uuid.uuid4().hex}.parquet"
        sample_bytes = 0
        with clear_errors(path):
            writer = PartWriter(path, layout)
            for samples, size in self._row_groups(refs, encoder, layout):
                writer.write([_to_disk(samples[column.name], column) for column in layout])
                sample_bytes += size
            written = writer.close()
            ranges = {field: self._side_file(data) for field, data in written.ranges.items()}
        return PartReport(
            number=number, file=path.name, bytes=written.size, sha256=written.sha256, sample_bytes=sample_bytes,
            row_group_samples=written.row_group_samples, extents=written.extents, ranges=ranges,
            column_bytes={name: written.column_bytes[name][1] for name in self.encoding.schema.names},
            statistics=encoder.statistics(), compression=encoder.compression(),
        )  # fmt: skip

    def _row_groups(
        self, refs: pa.Table, encoder: Encoder, layout: tuple[Column, ...]
    ) -> Iterator[tuple[Mapping[str, pa.Array], int]]:
        """The samples of each row group by column, and their bytes as encoded.

        Where the staged samples are what is stored, their sizes are known, and a row group is fetched at once. Else chunks of
        them are fetched, and cut by what they have become.
        """
        staged = refs["bytes"].to_numpy()
        if not self.encoding.changed:
            for first, stop in row_groups(staged, self.row_group_bytes):
                yield self._samples(refs.slice(first, stop - first), encoder), int(staged[first:stop].sum())
            return
        cutter = RowGroupCutter(self.row_group_bytes)
        counted = tuple(column for column in layout if column.name != PAD)
        grown = np.maximum(staged, sum(column.stride for column in counted))
        for first, stop in row_groups(grown, self.row_group_bytes // _CHUNKS):
            samples = pa.RecordBatch.from_pydict(self._samples(refs.slice(first, stop - first), encoder))
            yield from cutter.add(samples, encoded_bytes(samples, counted))
        yield from cutter.rest()

    def _samples(self, refs: pa.Table, encoder: Encoder) -> dict[str, pa.Array]:
        pads = refs[_PAD_FLAG].combine_chunks()
        samples = encoder.encode(self.exchange.fetch(refs, encoder.fetched), pads.false_count)
        return {**samples, KEY: _sample_keys(refs["place_key"]), PAD: pads}

    def _side_file(self, data: bytes) -> tuple[str, int, str]:
        path = self.directory / f"{uuid.uuid4().hex}.npy"
        path.write_bytes(data)
        return path.name, len(data), hashlib.sha256(data).hexdigest()


def row_groups(sample_bytes: npt.NDArray[np.int64], limit: int) -> list[tuple[int, int]]:
    """Cut a part into row groups [first, stop) of at most `limit` bytes each, or one sample: by the samples' own encoded
    sizes, so that the cuts depend on nothing else.
    """
    ends = np.cumsum(sample_bytes)
    out = []
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + limit, side="right")))
        out.append((first, stop))
        first = stop
    return out


class RowGroupCutter:
    """Cuts samples that come in chunks as `row_groups` would cut them all at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[pa.RecordBatch] = []
        self._sizes: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, samples: pa.RecordBatch, sizes: npt.NDArray[np.int64]) -> Iterator[tuple[dict[str, pa.Array], int]]:
        """The row groups that are complete with these samples, each with its bytes."""
        self._chunks.append(samples)
        self._sizes = np.append(self._sizes, sizes)
        *complete, (kept, _) = row_groups(self._sizes, self._limit)
        if not complete:
            return
        table = pa.Table.from_batches(self._chunks)
        for first, stop in complete:
            yield _columns(table.slice(first, stop - first)), int(self._sizes[first:stop].sum())
        self._chunks = table.slice(kept).to_batches()
        self._sizes = self._sizes[kept:]

    def rest(self) -> Iterator[tuple[dict[str, pa.Array], int]]:
        """The last row group."""
        if self._chunks:
            yield _columns(pa.Table.from_batches(self._chunks)), int(self._sizes.sum())


def _columns(table: pa.Table) -> dict[str, pa.Array]:
    return {name: pa.concat_arrays(table[name].chunks) for name in table.column_names}


def _order(table: pa.Table) -> npt.NDArray[np.int64]:
    """By place, pads last."""
    keys = as_sortable(as_matrix(table["place_key"].combine_chunks()))
    return np.lexsort((keys, table[_PAD_FLAG].to_numpy()))


def _sample_keys(places: pa.ChunkedArray) -> pa.Array:
    """The `_key` column: a place key holds the sample key."""
    keys = np.ascontiguousarray(keys_of(as_matrix(places.combine_chunks())))
    return pa.Array.from_buffers(pa.binary(KEY_BYTES), len(keys), [None, pa.py_buffer(keys)])


def _to_disk(array: pa.Array, column: Column) -> pa.Array:
    return array if array.type == column.arrow_type else array.cast(column.arrow_type)
