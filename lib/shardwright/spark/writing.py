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
from shardwright.format.layout import KEY, PAD, Column, columns
from shardwright.format.part import PartWriter
from shardwright.hashing import KEY_BYTES
from shardwright.schema import Schema
from shardwright.spark.exchange import Exchange
from shardwright.spark.index import IndexFiles
from shardwright.spark.reading import REPORT
from shardwright.stages.shard import PartPlan, as_sortable
from shardwright.stages.standardise import CollectStatistics
from shardwright.storage.local import clear_errors

PART = "part"
_PAD_FLAG = "pad"


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
        raw = b"".join(batch["place_key"].to_pylist())
        keys = as_sortable(np.frombuffer(raw, np.uint8).reshape(batch.num_rows, -1))
        kept = keys < np.bytes_(route.end)
        numbers = np.searchsorted(np.array(route.firsts), keys, side="right") - 1 + route.first_part
        yield numbers[kept], False, batch.filter(pa.array(kept))
        for key, number in route.pads:
            again = np.flatnonzero(keys == np.bytes_(key))
            if len(again):
                yield np.full(len(again), number), True, batch.take(pa.array(again))


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """What one part turned out to be, and the names of its files in staging."""

    number: int
    file: str
    bytes: int
    sha256: str
    row_group_samples: tuple[int, ...]
    extents: tuple[tuple[Extent, ...], ...]
    ranges: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    """Field of varying length -> side file in staging, bytes, sha256."""
    statistics: dict[str, Any] = field(default_factory=dict)

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

    schema: Schema
    parts: tuple[PartPlan, ...]
    padded: dict[str, int]
    exchange: Exchange
    directory: Path
    compress: tuple[str, ...]
    row_group_bytes: int
    statistics_split: str
    decoded: tuple[str, ...]

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
        padded = bool(self.padded[split])
        layout = columns(self.schema, compressed=self.compress, pad=padded)
        name = uuid.uuid4().hex
        path = self.directory / f"{name}.parquet"
        statistics = CollectStatistics(self.schema, decoded=self.decoded) if split == self.statistics_split else None
        with clear_errors(path):
            writer = PartWriter(path, layout)
            for first, stop in row_groups(refs["bytes"].to_numpy(), self.row_group_bytes):
                self._write_group(writer, refs.slice(first, stop - first), layout, statistics)
            written = writer.close()
            ranges = {field: self._side_file(data) for field, data in written.ranges.items()}
        return PartReport(
            number=number, file=path.name, bytes=written.size, sha256=written.sha256,
            row_group_samples=written.row_group_samples, extents=written.extents, ranges=ranges,
            statistics=statistics.to_json() if statistics else {},
        )  # fmt: skip

    def _write_group(
        self, writer: PartWriter, refs: pa.Table, layout: tuple[Column, ...], statistics: CollectStatistics | None
    ) -> None:
        fields = [column for column in layout if column.name in self.schema]
        arrays = dict(zip((column.name for column in fields), self.exchange.fetch(refs, fields), strict=True))
        pads = refs[_PAD_FLAG].combine_chunks()
        arrays[KEY] = _sample_keys(refs["place_key"])
        if statistics:
            real = pads.false_count
            statistics.update({name: arrays[name].slice(0, real) for name in self.schema.names})
        arrays[PAD] = pads
        writer.write([_to_disk(arrays[column.name], column) for column in layout])

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


def _order(table: pa.Table) -> npt.NDArray[np.int64]:
    """By place, pads last."""
    raw = b"".join(table["place_key"].to_pylist())
    keys = as_sortable(np.frombuffer(raw, np.uint8).reshape(table.num_rows, -1))
    return np.lexsort((keys, table[_PAD_FLAG].to_numpy()))


def _sample_keys(places: pa.ChunkedArray) -> pa.Array:
    """The `_key` column: a place key holds the sample key."""
    keys = [place[8 : 8 + KEY_BYTES] for place in places.to_pylist()]
    return pa.array(keys, pa.binary(KEY_BYTES))


def _to_disk(array: pa.Array, column: Column) -> pa.Array:
    return array if array.type == column.arrow_type else array.cast(column.arrow_type)
