"""The writing pass: the index rows of one part in; out come the part's files in staging, and a report. Executors run it.

Everything here is a function over Arrow batches and runs without Spark.
"""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from shardwright.spark.exchange import Exchange, Fetch
from shardwright.spark.index import IndexFiles
from shardwright.spark.reading import REPORT, encoded_bytes
from shardwright.spark.row_groups import RowGroupCutter, row_groups
from shardwright.stages.shard import PartPlan
from shardwright.storage import WritableStorage

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


ROUTED = pa.schema([(PART, pa.int32()), (_PAD_FLAG, pa.bool_()), ("place_key", pa.binary()), ("bytes", pa.int64())])
"""What goes with a sample to the task that writes it: the number of the part, and what orders samples in it."""


@dataclass(frozen=True)
class RoutePass:
    """Sends every sample to its part; drops what is left over; repeats what is padded."""

    index: IndexFiles
    routes: dict[str, SplitRoutes]
    exchange: Exchange

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Numbers of index files to what goes through the shuffle."""
        return self.exchange.send(self._routed(numbers), ROUTED)

    def _routed(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of samples that some part gets, in the order of the index."""
        schema = pa.schema([*ROUTED, *self.exchange.columns])
        for batch in self.index.read(numbers, ["split", *schema.names[2:]]):
            found = [found for split, route in self.routes.items() for found in _parts(route, batch, split)]
            if not found:
                continue
            rows, parts, pads = (np.concatenate(each) for each in zip(*found, strict=True))
            order = np.argsort(rows, kind="stable")
            taken = batch.take(pa.array(rows[order]))
            columns = [pa.array(parts[order], pa.int32()), pa.array(pads[order]), *(taken[name] for name in schema.names[2:])]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


_Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]


def _parts(route: SplitRoutes, batch: pa.RecordBatch, split: str) -> Iterator[_Found]:
    """Rows of a split, the part of each, and whether it is a pad there."""
    own = np.flatnonzero(pc.equal(batch["split"], split).to_numpy(zero_copy_only=False))
    if not len(own):
        return
    keys = as_sortable(as_matrix(batch["place_key"].take(pa.array(own))))
    kept = keys < np.bytes_(route.end)
    numbers = np.searchsorted(np.array(route.firsts), keys[kept], side="right") - 1 + route.first_part
    yield own[kept], numbers, np.zeros(len(numbers), bool)
    if route.pads:
        firsts, into = np.array([key for key, _ in route.pads]), np.array([number for _, number in route.pads])
        which = np.minimum(np.searchsorted(firsts, keys), len(firsts) - 1)
        again = np.flatnonzero(firsts[which] == keys)
        yield own[again], into[which[again]], np.ones(len(again), bool)


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
    directory: WritableStorage
    row_group_bytes: int
    statistics_split: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the part of one partition; one report."""
        with self.exchange.receive(batches, ROUTED) as (table, samples):
            if not table.num_rows:
                return
            rows = table.combine_chunks()
            report = self._write(rows[PART][0].as_py(), rows.take(pa.array(_order(rows))), samples)
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)

    def _write(self, number: int, refs: pa.Table, samples: Fetch) -> PartReport:
        split = self.parts[number].split
        layout = self.encoding.layout(pad=bool(self.padded[split]))
        encoder = Encoder(self.encoding, layout, statistics=split == self.statistics_split)
        name = f"{uuid.uuid4().hex}.parquet"
        sample_bytes = 0
        with self.directory.new_file(name) as path:
            writer = PartWriter(path, layout)
            for group, size in self._row_groups(refs, functools.partial(_encoded, samples, encoder), layout):
                writer.write([_to_disk(group[column.name], column) for column in layout])
                sample_bytes += size
            written = writer.close()
        ranges = {field: self._side_file(data) for field, data in written.ranges.items()}
        return PartReport(
            number=number, file=name, bytes=written.size, sha256=written.sha256, sample_bytes=sample_bytes,
            row_group_samples=written.row_group_samples, extents=written.extents, ranges=ranges,
            column_bytes={name: written.column_bytes[name][1] for name in self.encoding.schema.names},
            statistics=encoder.statistics(), compression=encoder.compression(),
        )  # fmt: skip

    def _row_groups(
        self, refs: pa.Table, encoded: Callable[[pa.Table], dict[str, pa.Array]], layout: tuple[Column, ...]
    ) -> Iterator[tuple[Mapping[str, pa.Array], int]]:
        """The samples of each row group by column, and their bytes as encoded.

        Where the staged samples are what is stored, their sizes are known, and a row group is fetched at once. Else chunks of
        them are fetched, and cut by what they have become.
        """
        staged = refs["bytes"].to_numpy()
        if not self.encoding.changed:
            for first, stop in row_groups(staged, self.row_group_bytes):
                yield encoded(refs.slice(first, stop - first)), int(staged[first:stop].sum())
            return
        cutter = RowGroupCutter(self.row_group_bytes)
        counted = tuple(column for column in layout if column.name != PAD)
        grown = np.maximum(staged, sum(column.stride for column in counted))
        for first, stop in row_groups(grown, self.row_group_bytes // _CHUNKS):
            samples = pa.RecordBatch.from_pydict(encoded(refs.slice(first, stop - first)))
            yield from cutter.add(samples, encoded_bytes(samples, counted))
        yield from cutter.rest()

    def _side_file(self, data: bytes) -> tuple[str, int, str]:
        name = f"{uuid.uuid4().hex}.npy"
        self.directory.write(name, data)
        return name, len(data), hashlib.sha256(data).hexdigest()


def _encoded(samples: Fetch, encoder: Encoder, refs: pa.Table) -> dict[str, pa.Array]:
    pads = refs[_PAD_FLAG].combine_chunks()
    stored = encoder.encode(samples.fetch(refs, encoder.fetched), pads.false_count)
    return {**stored, KEY: _sample_keys(refs["place_key"]), PAD: pads}


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
