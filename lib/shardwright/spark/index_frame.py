"""The staged index as a DataFrame: samples of equal key are numbered, and the place keys at boundaries are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.errors import KeyConflictError
from shardwright.hashing import place_keys
from shardwright.hashing.keyed import PLACE_KEY_BYTES
from shardwright.spark.exchange import Exchange
from shardwright.spark.reading import REPORT, ReadReport, index_schema
from shardwright.stages.shard import PartPlan, bins_of, bins_with_ranks, boundary_ranks, keys_at_ranks


def read_index(spark: SparkSession, directory: Path, files: list[str], exchange: Exchange) -> DataFrame:
    """The staged index of the tasks that succeeded: other files in the directory are strays of killed attempts."""
    schema = from_arrow_schema(index_schema(exchange))
    return spark.read.schema(schema).parquet(*(f"file://{directory / name}" for name in files))


def repeated_keys(index: DataFrame) -> DataFrame:
    """The keys that more than one sample has."""
    counted = index.groupBy("key").agg(
        sf.count("*").alias("samples"),
        (sf.min("content") != sf.max("content")).alias("conflict"),
        sf.min("source").alias("one"),
        sf.max("source").alias("other"),
    )
    return counted.where(sf.col("samples") > 1)


def check_conflicts(repeated: DataFrame) -> None:
    """Raise KeyConflictError when samples of one key have different contents."""
    found = repeated.where("conflict").select("one", "other").limit(3).collect()
    if found:
        pairs = "; ".join(f"{row.one or 'a sample'} and {row.other or 'another'}" for row in found)
        raise KeyConflictError(
            f"samples of one key (read.key) have different contents: {pairs}; choose fields that identify a sample, "
            'or set read.duplicate_keys = "keep" to keep them all'
        )


def number_repeated(index: DataFrame, repeated: DataFrame, seed: int, exchange: Exchange) -> DataFrame:
    """The index with place keys that count the occurrences of equal keys 0, 1, … by content."""
    ordered = Window.partitionBy("key").orderBy("content", "source", *(field.name for field in exchange.columns))
    again = index.join(repeated.select("key"), on="key", how="left_semi")
    numbered = again.withColumn("occurrence", sf.row_number().over(ordered) - 1)
    once = index.join(repeated.select("key"), on="key", how="left_anti").withColumn("occurrence", sf.lit(0))
    schema = from_arrow_schema(index_schema(exchange))
    return once.unionByName(numbered).mapInArrow(_Renumber(seed, exchange), schema)


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


class CountPlaces:
    """Counts samples, bytes and place bins of index rows anew: one report per partition."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Index rows to a report."""
        report = ReadReport()
        for batch in batches:
            if batch.num_rows:
                report.count(batch["split"], _matrix(batch["place_key"]), batch["bytes"].to_numpy())
        yield pa.RecordBatch.from_pylist([{"report": report.to_json()}], REPORT)


def find_boundaries(index: DataFrame, report: ReadReport, parts: tuple[PartPlan, ...]) -> dict[str, dict[int, bytes]]:
    """The place key at every boundary rank of every split."""
    ranks = {split: boundary_ranks(parts, split) for split in report.samples}
    bins = {split: bins_with_ranks(report.bins[split], ranks[split]) for split in ranks}
    rows = index.select("split", "place_key").mapInArrow(_PickBins(bins), "split string, place_key binary")
    found = rows.toArrow()
    out = {}
    for split, wanted in ranks.items():
        own = found.filter(pc.equal(found["split"], split))["place_key"].combine_chunks()
        out[split] = keys_at_ranks(report.bins[split], wanted, _matrix(own))
    return out


@dataclass(frozen=True)
class _PickBins:
    bins: Mapping[str, list[int]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for split, bins in self.bins.items():
                own = batch.filter(pc.equal(batch["split"], split))
                if own.num_rows:
                    yield own.filter(pa.array(np.isin(bins_of(_matrix(own["place_key"])), bins)))


def _matrix(keys: pa.Array) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(keys.to_pylist()), np.uint8).reshape(len(keys), PLACE_KEY_BYTES)
