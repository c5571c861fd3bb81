"""The staged index: one row per sample, all that the next passes need to know of it. Samples of equal key are numbered here."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

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
from shardwright.storage import WritableStorage


@dataclass(frozen=True)
class IndexFiles:
    """The index files of the tasks that succeeded; others in the directory are strays of killed attempts.

    Tasks read them with pyarrow: a scan by Spark would bring every row to Python by way of the JVM.
    """

    directory: WritableStorage
    names: tuple[str, ...]

    def numbers(self, spark: SparkSession) -> DataFrame:
        """One row and one task per file: its number."""
        return spark.range(0, len(self.names), 1, len(self.names))

    def read(self, numbers: Iterator[pa.RecordBatch], columns: Iterable[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of the files whose numbers Spark hands out, with all columns by default."""
        wanted = None if columns is None else list(columns)
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                name = self.names[number]
                with pq.ParquetFile(self.directory.local_path(name) or self.directory.open(name)) as file:
                    yield from file.iter_batches(columns=wanted)

    def frame(self, spark: SparkSession, exchange: Exchange) -> DataFrame:
        """The rows as a DataFrame.

        Not by Spark's own scan: its tasks ask for the hosts of HDFS's blocks, and a local[*] scheduler forgets those that wait.
        """
        return self.numbers(spark).mapInArrow(self.read, from_arrow_schema(index_schema(exchange)))


def number_repeated(index: DataFrame, exchange: Exchange, *, tasks: int, conflicts_are_errors: bool) -> DataFrame:
    """The index with the column `occurrence`, which counts samples of equal key 0, 1, … by content.

    It is in about `tasks` partitions where rows have to be in the order of the staged files. Raises KeyConflictError when
    samples of one key have different contents, and `conflicts_are_errors`.
    """
    counted = index.groupBy("key").agg(
        sf.count("*").alias("samples"),
        (sf.min("content") != sf.max("content")).alias("conflict"),
        sf.min("source").alias("one"),
        sf.max("source").alias("other"),
    )
    # Spark takes what Python reads for small, and would bring all repeated keys, however many, to the driver to broadcast them
    repeated = counted.where(sf.col("samples") > 1).hint("merge")
    if conflicts_are_errors:
        _check_conflicts(repeated)
    refs = [field.name for field in exchange.columns]
    ordered = Window.partitionBy("key").orderBy("content", "source", *refs)
    again = index.join(repeated.select("key"), on="key", how="left_semi")
    numbered = again.withColumn("occurrence", sf.row_number().over(ordered) - 1)
    once = index.join(repeated.select("key"), on="key", how="left_anti").withColumn("occurrence", sf.lit(0))
    both = once.unionByName(numbered)
    # a staged file is read by one task, once: all that refer to it come together again
    return both.repartition(tasks, refs[0]).sortWithinPartitions(*refs) if exchange.in_file_order else both


def _check_conflicts(repeated: DataFrame) -> None:
    found = repeated.where("conflict").select("one", "other").limit(3).collect()
    if found:
        pairs = "; ".join(f"{row.one or 'a sample'} and {row.other or 'another'}" for row in found)
        raise KeyConflictError(
            f"samples of one key (read.key) have different contents: {pairs}; choose fields that identify a sample, "
            'or set read.duplicate_keys = "keep" to keep them all'
        )


@dataclass(frozen=True)
class Renumber:
    """Writes index files with place keys that tell samples of equal key apart, from rows with their `occurrence`: one report
    per task, with the samples, bytes and place bins counted anew.
    """

    directory: WritableStorage
    exchange: Exchange
    seed: int
    keep_order: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Index rows to a report, which names the new file."""
        yield _rewritten(self.directory, map(self._placed, batches), keep_order=self.keep_order)

    def _placed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = index_schema(self.exchange)
        keys = as_matrix(batch["key"])
        occurrence = batch["occurrence"].to_numpy(zero_copy_only=False).astype(np.uint32)
        if self.keep_order:
            places = ordered_place_keys(order_of(as_matrix(batch["place_key"])), keys, occurrence)
        else:
            places = place_keys(self.seed, keys, occurrence)
        columns = {name: batch[name] for name in schema.names}
        return pa.RecordBatch.from_pydict({**columns, "place_key": as_column(places)}, schema)


@dataclass(frozen=True)
class AssignSplits:
    """Writes index files anew with the splits of stratified samples: one report per task."""

    index: IndexFiles
    splits: StratifiedSplit
    seed: int
    keep_order: bool

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Numbers of files to a report, which names the new file."""
        assigned = map(self._assigned, self.index.read(numbers))
        yield _rewritten(self.index.directory, assigned, keep_order=self.keep_order)

    def _assigned(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys = stratified_keys(self.seed, as_matrix(batch["class"]), as_matrix(batch["key"]))
        place = batch.schema.get_field_index("split")
        return batch.set_column(place, batch.schema.field(place), self.splits(keys))


def _rewritten(directory: WritableStorage, batches: Iterator[pa.RecordBatch], *, keep_order: bool) -> pa.RecordBatch:
    """Write index rows to a file of this task attempt's own, where there are any; the report."""
    report = ReadReport()
    first = next(batches, None)
    if first is not None:
        name = f"{uuid.uuid4().hex}.parquet"
        with directory.new_file(name) as path, pq.ParquetWriter(path, first.schema, compression="lz4") as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch)
                _count(report, batch, keep_order=keep_order)
        report.index_files.append(name)
    return pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)


def _count(report: ReadReport, batch: pa.RecordBatch, *, keep_order: bool) -> None:
    if batch.num_rows:
        places = None if keep_order else as_matrix(batch["place_key"])
        report.count(batch["split"], places, batch["bytes"].to_numpy())
