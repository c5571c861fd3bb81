"""The staged index: one row per sample, all that the next passes need to know of it. Samples of equal key are numbered here."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.errors import KeyConflictError
from shardwright.hashing import place_keys
from shardwright.hashing.places import as_column, as_matrix, order_of, ordered_place_keys
from shardwright.spark.exchange import Exchange
from shardwright.spark.reading import REPORT, ReadReport, index_schema
from shardwright.stages.split import StratifiedSplit, stratified_keys
from shardwright.storage.local import clear_errors


@dataclass(frozen=True)
class IndexFiles:
    """The index files of the tasks that succeeded; others in the directory are strays of killed attempts.

    Tasks read them with pyarrow: a scan by Spark would bring every row to Python by way of the JVM.
    """

    directory: Path
    names: tuple[str, ...]

    def numbers(self, spark: SparkSession) -> DataFrame:
        """One row and one task per file: its number."""
        return spark.range(0, len(self.names), 1, len(self.names))

    def read(self, numbers: Iterator[pa.RecordBatch], columns: Iterable[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of the files whose numbers Spark hands out, with all columns by default."""
        wanted = None if columns is None else list(columns)
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                yield from pq.ParquetFile(self.directory / self.names[number]).iter_batches(columns=wanted)

    def frame(self, spark: SparkSession, exchange: Exchange) -> DataFrame:
        """The rows as a DataFrame."""
        schema = from_arrow_schema(index_schema(exchange))
        return spark.read.schema(schema).parquet(*(f"file://{self.directory / name}" for name in self.names))


def number_repeated(
    index: DataFrame, seed: int, exchange: Exchange, *, keep_order: bool, conflicts_are_errors: bool
) -> DataFrame:
    """The index with place keys that count the occurrences of equal keys 0, 1, … by content.

    Raises KeyConflictError when samples of one key have different contents, and `conflicts_are_errors`.
    """
    counted = index.groupBy("key").agg(
        sf.count("*").alias("samples"),
        (sf.min("content") != sf.max("content")).alias("conflict"),
        sf.min("source").alias("one"),
        sf.max("source").alias("other"),
    )
    repeated = counted.where(sf.col("samples") > 1)
    if conflicts_are_errors:
        _check_conflicts(repeated)
    ordered = Window.partitionBy("key").orderBy("content", "source", *(field.name for field in exchange.columns))
    again = index.join(repeated.select("key"), on="key", how="left_semi")
    numbered = again.withColumn("occurrence", sf.row_number().over(ordered) - 1)
    once = index.join(repeated.select("key"), on="key", how="left_anti").withColumn("occurrence", sf.lit(0))
    schema = from_arrow_schema(index_schema(exchange))
    return once.unionByName(numbered).mapInArrow(_Renumber(seed, exchange, keep_order), schema)


def _check_conflicts(repeated: DataFrame) -> None:
    found = repeated.where("conflict").select("one", "other").limit(3).collect()
    if found:
        pairs = "; ".join(f"{row.one or 'a sample'} and {row.other or 'another'}" for row in found)
        raise KeyConflictError(
            f"samples of one key (read.key) have different contents: {pairs}; choose fields that identify a sample, "
            'or set read.duplicate_keys = "keep" to keep them all'
        )


@dataclass(frozen=True)
class _Renumber:
    seed: int
    exchange: Exchange
    keep_order: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = index_schema(self.exchange)
        for batch in batches:
            keys = as_matrix(batch["key"])
            occurrence = batch["occurrence"].to_numpy(zero_copy_only=False).astype(np.uint32)
            if self.keep_order:
                places = ordered_place_keys(order_of(as_matrix(batch["place_key"])), keys, occurrence)
            else:
                places = place_keys(self.seed, keys, occurrence)
            columns = {name: batch[name] for name in schema.names}
            yield pa.RecordBatch.from_pydict({**columns, "place_key": as_column(places)}, schema)


@dataclass(frozen=True)
class CountPlaces:
    """Counts samples, bytes and place bins of index rows anew: one report per task."""

    index: IndexFiles
    keep_order: bool

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """File numbers to a report."""
        report = ReadReport()
        for batch in self.index.read(numbers, ["split", "place_key", "bytes"]):
            _count(report, batch, keep_order=self.keep_order)
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)


@dataclass(frozen=True)
class AssignSplits:
    """Writes index files anew with the splits of stratified samples: one report per task."""

    index: IndexFiles
    splits: StratifiedSplit
    seed: int
    keep_order: bool

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """File numbers to a report, which names the new files."""
        report = ReadReport()
        name = f"{uuid.uuid4().hex}.parquet"
        writer: pq.ParquetWriter | None = None
        with clear_errors(self.index.directory / name):
            for batch in self.index.read(numbers):
                keys = stratified_keys(self.seed, as_matrix(batch["class"]), as_matrix(batch["key"]))
                place = batch.schema.get_field_index("split")
                known = batch.set_column(place, batch.schema.field(place), self.splits(keys))
                writer = writer or pq.ParquetWriter(self.index.directory / name, known.schema, compression="lz4")
                writer.write_batch(known)
                _count(report, known, keep_order=self.keep_order)
            if writer:
                writer.close()
                report.index_files.append(name)
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)


def _count(report: ReadReport, batch: pa.RecordBatch, *, keep_order: bool) -> None:
    if batch.num_rows:
        places = None if keep_order else as_matrix(batch["place_key"])
        report.count(batch["split"], places, batch["bytes"].to_numpy())
