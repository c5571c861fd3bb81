"""The staged index: samples of equal key are found and numbered, and the place keys at boundaries are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.errors import KeyConflictError
from shardwright.hashing import place_keys
from shardwright.hashing.keyed import PLACE_KEY_BYTES
from shardwright.spark.exchange import Exchange
from shardwright.spark.reading import REPORT, ReadReport, index_schema
from shardwright.stages.shard import PartPlan, as_sortable, bins_of, bins_with_ranks, boundary_ranks, keys_at_ranks

ROWS_PER_TASK = 2**21
"""Index rows that one task, or the driver, looks through at once."""
_BINNED = pa.schema([("bin", pa.int32()), ("split", pa.string()), ("place_key", pa.binary())])
_FOUND = pa.schema([("split", pa.string()), ("place_key", pa.binary()), ("repeated", pa.bool_())])


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

    def read(self, numbers: Iterator[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of the files whose numbers Spark hands out."""
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                yield from pq.ParquetFile(self.directory / self.names[number]).iter_batches(columns=list(columns))

    def frame(self, spark: SparkSession, exchange: Exchange) -> DataFrame:
        """The rows as a DataFrame."""
        schema = from_arrow_schema(index_schema(exchange))
        return spark.read.schema(schema).parquet(*(f"file://{self.directory / name}" for name in self.names))


def find_boundaries(
    spark: SparkSession, index: IndexFiles, report: ReadReport, parts: tuple[PartPlan, ...]
) -> dict[str, dict[int, bytes]] | None:
    """The place key at every boundary rank of every split; None when there are samples of equal place key.

    Those have equal keys, and their places are known only when they are numbered.
    """
    ranks = {split: boundary_ranks(parts, split) for split in report.samples}
    bins = {split: bins_with_ranks(report.bins[split], ranks[split]) for split in ranks}
    found = _find(spark, _Bin(index), _Find(bins), sum(report.samples.values()))
    if pc.any(found["repeated"]).as_py():
        return None
    out = {}
    for split, wanted in ranks.items():
        own = found.filter(pc.equal(found["split"], split))["place_key"].combine_chunks()
        out[split] = keys_at_ranks(report.bins[split], wanted, _matrix(own))
    return out


def _find(spark: SparkSession, binned: _Bin, find: _Find, rows: int) -> pa.Table:
    """All that `find` gives: here where one task could do it, which saves a Spark job; else by Spark."""
    index = binned.index
    if rows <= ROWS_PER_TASK:
        numbers = pa.RecordBatch.from_pydict({"id": pa.array(range(len(index.names)), pa.int64())})
        return pa.Table.from_batches(find(binned(iter([numbers]))), _FOUND)
    tasks = max(spark.sparkContext.defaultParallelism, rows // ROWS_PER_TASK)
    shuffled = index.numbers(spark).mapInArrow(binned, from_arrow_schema(_BINNED)).repartitionById(tasks, sf.col("bin"))
    return shuffled.mapInArrow(find, from_arrow_schema(_FOUND)).toArrow()


@dataclass(frozen=True)
class _Bin:
    """Index rows with the bin of their place key: equal keys meet in one task."""

    index: IndexFiles

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in self.index.read(numbers, ["split", "place_key"]):
            bins = bins_of(_matrix(batch["place_key"])).astype(np.int32)
            yield pa.RecordBatch.from_arrays([pa.array(bins), batch["split"], batch["place_key"]], schema=_BINNED)


@dataclass(frozen=True)
class _Find:
    """The rows in bins that hold boundaries, and one row for a place key that several samples have."""

    bins: Mapping[str, list[int]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = pa.Table.from_batches(batches, _BINNED)
        ordered = np.sort(as_sortable(_matrix(table["place_key"].combine_chunks())))
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            key = bytes(twice[0]).ljust(PLACE_KEY_BYTES, b"\0")
            yield pa.RecordBatch.from_pylist([{"split": None, "place_key": key, "repeated": True}], _FOUND)
        for split, bins in self.bins.items():
            own = table.filter(pc.and_(pc.equal(table["split"], split), pc.is_in(table["bin"], pa.array(bins, pa.int32()))))
            for batch in own.to_batches():
                repeated = pa.repeat(pa.scalar(False), batch.num_rows)
                yield pa.RecordBatch.from_arrays([batch["split"], batch["place_key"], repeated], schema=_FOUND)


def number_repeated(index: DataFrame, seed: int, exchange: Exchange, *, conflicts_are_errors: bool) -> DataFrame:
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
    return once.unionByName(numbered).mapInArrow(_Renumber(seed, exchange), schema)


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

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = index_schema(self.exchange)
        for batch in batches:
            keys = np.frombuffer(b"".join(batch["key"].to_pylist()), np.uint8).reshape(batch.num_rows, -1)
            occurrence = batch["occurrence"].to_numpy(zero_copy_only=False).astype(np.uint32)
            places = place_keys(self.seed, keys, occurrence)
            fixed = pa.Array.from_buffers(pa.binary(PLACE_KEY_BYTES), len(places), [None, pa.py_buffer(places)])
            columns = {name: batch[name] for name in schema.names}
            yield pa.RecordBatch.from_pydict({**columns, "place_key": fixed.cast(pa.binary())}, schema)


@dataclass(frozen=True)
class CountPlaces:
    """Counts samples, bytes and place bins of index rows anew: one report per task."""

    index: IndexFiles

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """File numbers to a report."""
        report = ReadReport()
        for batch in self.index.read(numbers, ["split", "place_key", "bytes"]):
            if batch.num_rows:
                report.count(batch["split"], _matrix(batch["place_key"]), batch["bytes"].to_numpy())
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)


def _matrix(keys: pa.Array) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys.to_pylist()), np.uint8).reshape(len(keys), PLACE_KEY_BYTES)
