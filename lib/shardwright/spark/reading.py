"""The reading pass: raw input in; out come staged samples, their index, and a report. It runs in the executors.

Everything here is a function over Arrow batches and runs without Spark.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.format.checksums import FieldChecksums, add_sums
from shardwright.format.layout import KEY, Column, columns, sample_type
from shardwright.hashing import place_keys
from shardwright.hashing.places import as_column, ordered_place_keys
from shardwright.hashing.ranks import UNIFORM_BINS, Bins
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import Schema
from shardwright.sources.base import InputFile, Source, Task
from shardwright.spark.exchange import Exchange
from shardwright.stages import SOURCE, Map
from shardwright.stages.read import CONTENT
from shardwright.stages.shard import ORDER_VALUES
from shardwright.stages.split import CLASS, SPLIT, check_classes
from shardwright.storage import WritableStorage

_TASKS = pa.schema([("task", pa.string())])
_TASKS_FILE = "tasks.arrow"
_READ_ROW = "_read_row"
"""Column of a batch on its way through the stages: which row of it, as read, a sample is."""
REPORT = pa.schema([("report", pa.string())])
"""What every pass gives back to the driver: one JSON text per task."""


class Rows(Protocol):
    """Where a reading task gets its samples from: batches as `Source.read` gives them."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The samples that belong to what Spark hands to this task."""


@dataclass(frozen=True)
class SourceRows:
    """Samples of the tasks whose numbers Spark hands out; a file in `directory` describes them, so that each task reads of the
    list of files no more than its own.
    """

    source: Source
    directory: WritableStorage

    @classmethod
    def staged(cls, source: Source, tasks: Sequence[Task], directory: WritableStorage) -> SourceRows:
        """Those of `tasks`, described in a new file in `directory`: a batch of one text for each."""
        with (
            directory.new_file(_TASKS_FILE) as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, _TASKS) as writer,
        ):
            for task in tasks:
                writer.write_batch(pa.RecordBatch.from_pydict({"task": [json.dumps(asdict(task))]}, _TASKS))
        return cls(source, directory)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The samples of the tasks in `batches`, whose one column holds task numbers."""
        with self.directory.open(_TASKS_FILE) as file:
            described = pa.ipc.open_file(file)
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    plain = json.loads(described.get_batch(number)["task"][0].as_py())
                    files = tuple(InputFile(**each) for each in plain.pop("files"))
                    yield from self.source.read(Task(files=files, **plain))


@dataclass(frozen=True)
class FrameRows:
    """Samples of a DataFrame, as Spark hands them out."""

    names: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of `batches`, of unknown source."""
        for batch in batches:
            yield batch.select(self.names).append_column(SOURCE, pa.nulls(batch.num_rows, pa.string()))


def index_schema(exchange: Exchange) -> pa.Schema:
    """The staged index: one row per sample, all that the next passes need to know of it."""
    return pa.schema(
        [
            pa.field("split", pa.string()),
            pa.field("class", pa.binary()),
            pa.field("place_key", pa.binary()),
            pa.field("key", pa.binary()),
            pa.field("content", pa.binary()),
            pa.field("source", pa.string()),
            pa.field("bytes", pa.int64()),
            *exchange.columns,
        ]
    )


@dataclass
class ReadReport:
    """What one reading task did, or all of them together."""

    read: int = 0
    quarantined: int = 0
    filtered: int = 0
    samples: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    bins: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Place keys of each split, by uniform bins; nothing where places are not uniform, or splits not known."""
    classes: Counter[str] = field(default_factory=Counter)
    """Samples of each class, in hexadecimal, where the split is stratified."""
    quarantine_files: list[str] = field(default_factory=list)
    index_files: list[str] = field(default_factory=list)
    checksums: dict[str, int] = field(default_factory=dict)
    """Of the fields as they were read, of the samples that were kept, where they are wanted."""
    first_reasons: list[str] = field(default_factory=list)

    def count(self, splits: pa.Array, places: npt.NDArray[np.uint8] | None, sample_bytes: npt.NDArray[np.int64]) -> None:
        """Take kept samples in; `places` are their place keys, None where these are not to be counted."""
        encoded = splits.dictionary_encode()
        codes = encoded.indices.to_numpy()
        bins = None if places is None else Bins().of(places)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            own = codes == code
            self.samples[name] += int(own.sum())
            self.bytes[name] += int(sample_bytes[own].sum())
            if bins is not None:
                self.bins[name] = self.bins.get(name, 0) + np.bincount(bins[own], minlength=UNIFORM_BINS)

    def merge(self, other: ReadReport) -> None:
        """Take another report in."""
        self.read += other.read
        self.quarantined += other.quarantined
        self.filtered += other.filtered
        self.classes.update(other.classes)
        check_classes(len(self.classes))
        self.samples.update(other.samples)
        self.bytes.update(other.bytes)
        for name, bins in other.bins.items():
            self.bins[name] = self.bins.get(name, 0) + bins
        self.quarantine_files = sorted(self.quarantine_files + other.quarantine_files)
        self.index_files = sorted(self.index_files + other.index_files)
        self.checksums = add_sums(self.checksums, other.checksums)
        self.first_reasons = sorted(self.first_reasons + other.first_reasons)[:MAX_REASONS]

    def to_json(self) -> str:
        """The report as JSON; bins as their numbers and counts, compressed: the driver gets them from every task."""
        plain = {**vars(self), "bins": {name: _pack(bins) for name, bins in self.bins.items()}}
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ReadReport:
        """What `to_json` gave."""
        plain: dict[str, Any] = json.loads(text)
        plain["bins"] = {name: _unpack(packed) for name, packed in plain["bins"].items()}
        return cls(**plain | {name: Counter(plain[name]) for name in ("samples", "bytes", "classes")})


MAX_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class ReadPass:
    """The reading pass as one function over batches, for `mapInArrow`."""

    rows: Rows
    maps: tuple[Map, ...]
    schema: Schema
    exchange: Exchange
    directory: WritableStorage
    seed: int
    checksums: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Stage the samples of one task; one report."""
        report = ReadReport()
        sums = FieldChecksums(self.schema)
        layout = columns(self.schema)
        staged_schema = pa.schema([(field.name, sample_type(field)) for field in self.schema])
        quarantine = _Quarantine(self.directory.child("quarantine"), report)
        name = f"{uuid.uuid4().hex}.parquet"
        with (
            self.exchange.staging(staged_schema) as staging,
            self.directory.child("index").new_file(name) as path,
            pq.ParquetWriter(path, index_schema(self.exchange), compression="lz4") as index,
        ):
            for batch in self.rows(batches):
                kept = self._apply(batch, quarantine, report)
                if not kept.num_rows:
                    continue
                if self.checksums:
                    sums.add_read(batch.take(kept[_READ_ROW]), kept[KEY])
                refs = staging.stage(kept)
                index.write_batch(self._index(kept, refs, layout, report))
            quarantine.close()
        report.index_files.append(name)
        report.checksums = sums.sums if self.checksums else {}
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)

    def _apply(self, batch: pa.RecordBatch, quarantine: _Quarantine, report: ReadReport) -> pa.RecordBatch:
        report.read += batch.num_rows
        as_read, batch = batch, batch.append_column(_READ_ROW, pa.array(np.arange(batch.num_rows, dtype=np.int32)))
        for stage in self.maps:
            kept, rejects = stage(batch)
            if kept.num_rows + len(rejects.rows) + rejects.filtered != batch.num_rows:
                raise AssertionError(f"{stage.name}: of {batch.num_rows} samples {kept.num_rows} came back, {rejects}")
            report.filtered += rejects.filtered
            if rejects.rows:
                rows = batch[_READ_ROW].take(pa.array(rejects.rows))
                quarantine.add(stage.name, as_read.take(rows), rejects.fields, rejects.reasons)
            batch = kept
        return batch

    def _index(
        self, kept: pa.RecordBatch, refs: dict[str, pa.Array], layout: tuple[Column, ...], report: ReadReport
    ) -> pa.RecordBatch:
        keys = fixed_bytes(kept[KEY])
        names = kept.schema.names
        ordered, stratified = ORDER_VALUES in names, CLASS in names
        places = ordered_place_keys(fixed_bytes(kept[ORDER_VALUES]), keys) if ordered else place_keys(self.seed, keys)
        sample_bytes = encoded_bytes(kept, layout)
        report.count(kept[SPLIT], None if ordered or stratified else places, sample_bytes)
        key = kept[KEY].cast(pa.binary())
        classes = kept[CLASS].cast(pa.binary()) if stratified else pa.nulls(len(key), pa.binary())
        report.classes.update(value.hex() for value in classes.to_pylist() if value is not None)
        check_classes(len(report.classes))
        return pa.RecordBatch.from_pydict(
            {
                "split": kept[SPLIT],
                "class": classes,
                "place_key": as_column(places),
                "key": key,
                "content": kept[CONTENT].cast(pa.binary()) if CONTENT in names else key,
                "source": kept[SOURCE],
                "bytes": pa.array(sample_bytes),
                **refs,
            },
            index_schema(self.exchange),
        )


def encoded_bytes(batch: pa.RecordBatch, layout: tuple[Column, ...]) -> npt.NDArray[np.int64]:
    """Bytes of each sample as it will be encoded in a part, before compression: int64 of shape (n,)."""
    fixed = sum(column.stride or 1 for column in layout if column.arrow_type not in _VARYING)
    total = np.full(batch.num_rows, fixed, np.int64)
    for column in layout:
        if column.arrow_type in _VARYING:
            array = batch[column.name]
            offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
            total += np.diff(offsets) + 4
    return total


_VARYING = (pa.binary(), pa.string())


class _Quarantine:
    """Rejected samples of one task, in one Parquet file: stage, field, reason, source, and the sample as it was read.

    Whatever stage refuses it: then the columns of a file, and of all files, are of one type.
    """

    def __init__(self, directory: WritableStorage, report: ReadReport) -> None:
        self._directory = directory
        self._report = report
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._extra: list[pa.Table] = []

    def add(self, stage: str, rejected: pa.RecordBatch, fields: list[str], reasons: list[str]) -> None:
        told = {
            "stage": pa.repeat(pa.scalar(stage), len(reasons)),
            "field": pa.array(fields, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "source": rejected[SOURCE],
        }
        names = [name for name in rejected.schema.names if not name.startswith("_")]
        sample = {f"sample_{name}": _readable(rejected[name]) for name in names}
        self._extra.append(pa.table({**told, **sample}))
        self._report.quarantined += len(reasons)
        shown = zip(rejected[SOURCE].to_pylist(), fields, reasons, strict=True)
        new = [f"{source or 'a sample'}: {f'field {name!r}: ' if name else ''}{reason}" for source, name, reason in shown]
        self._report.first_reasons = sorted(self._report.first_reasons + new)[:MAX_REASONS]

    def close(self) -> None:
        if not self._extra:
            return
        name = f"{uuid.uuid4().hex}.parquet"
        with self._directory.new_file(name) as path:
            pq.write_table(pa.concat_tables(self._extra, promote_options="permissive"), path)
        self._report.quarantine_files.append(name)


def _readable(values: pa.Array) -> pa.Array:
    """Strings that are no UTF-8 as bytes: with them as strings, others could not read the quarantine."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return values.cast(pa.binary()) if pa.types.is_string(values.type) else values
    return values


def _pack(bins: npt.NDArray[np.int64]) -> list[str]:
    filled = np.flatnonzero(bins)
    parts = (filled.astype("<u2"), bins[filled].astype("<i8"))
    return [base64.b64encode(zlib.compress(part.tobytes(), 1)).decode() for part in parts]


def _unpack(packed: list[str]) -> npt.NDArray[np.int64]:
    bins = np.zeros(UNIFORM_BINS, np.int64)
    filled, counts = (zlib.decompress(base64.b64decode(part)) for part in packed)
    bins[np.frombuffer(filled, "<u2")] = np.frombuffer(counts, "<i8")
    return bins
