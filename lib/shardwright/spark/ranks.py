"""The keys at which parts and splits begin: those of given ranks, out of the staged index.

A small index is looked through here; of a large one Spark counts keys in bins, and sorts bins that hold a rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.hashing.places import MAX_BYTES, as_column, as_matrix, as_sortable
from shardwright.hashing.ranks import I64, Bins, Wanted, keys_at, past_the_end, wanted_by_bin
from shardwright.spark.index import IndexFiles
from shardwright.stages.split import stratified_keys

ROWS_PER_TASK = 2**21
"""Index rows that one task, or the driver, looks through at once."""
_EDGES = 2**12
"""About how many bins are made for keys that lie anyhow."""
_BINNED = pa.schema([("bin", pa.int32()), ("group", pa.string()), ("key", pa.binary())])
_COUNTED = pa.schema([("group", pa.string()), ("bin", pa.int64()), ("rows", pa.int64())])
_FOUND = pa.schema([("group", pa.string()), ("rank", pa.int64()), ("key", pa.binary()), ("repeated", pa.bool_())])
_SAMPLED = pa.schema([("key", pa.binary())])

Keys = dict[str, dict[int, bytes]]
"""The key at each rank of each group."""


class Ranking(Protocol):
    """What index rows are put in order by."""

    columns: ClassVar[tuple[str, ...]]
    """What it needs of the index."""
    distinct: ClassVar[bool]
    """Whether equal keys are looked for."""

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.Array, npt.NDArray[np.uint8]]:
        """The group of each row, a string, and its key, uint8 of shape (n, width): ranks count within a group."""


class ByPlace:
    """Samples of each split by place key."""

    columns: ClassVar[tuple[str, ...]] = ("split", "place_key")
    distinct: ClassVar[bool] = True

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.Array, npt.NDArray[np.uint8]]:
        """The split and the place key."""
        return batch["split"], as_matrix(batch["place_key"])


@dataclass(frozen=True)
class ByClass:
    """All samples, class by class, each in the order in which it is cut into splits."""

    seed: int
    columns: ClassVar[tuple[str, ...]] = ("class", "key")
    distinct: ClassVar[bool] = False

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.Array, npt.NDArray[np.uint8]]:
        """One group, and the `stratified_keys`."""
        keys = stratified_keys(self.seed, as_matrix(batch["class"]), as_matrix(batch["key"]))
        return pa.repeat(pa.scalar(""), len(keys)), keys


def find_keys(
    spark: SparkSession,
    index: IndexFiles,
    ranking: Ranking,
    sizes: Mapping[str, int],
    ranks: Mapping[str, Sequence[int]],
    uniform: Mapping[str, I64] | None = None,
) -> Keys | None:
    """The key at each of `ranks`, in each group; None when there are equal keys, and `ranking` wants none.

    `sizes` are the rows of each group, `uniform` their counts in the uniform bins where these have been counted. A rank past
    the end gets a key that is larger than any.
    """
    rows = sum(sizes.values())
    if rows <= ROWS_PER_TASK:
        bins, counts = Bins(()), {group: np.array([size]) for group, size in sizes.items()}
    elif uniform:
        bins, counts = Bins(), dict(uniform)
    else:
        bins = Bins(_edges(spark, index, ranking, rows))
        counts = _count(spark, index, ranking, bins)
    find = _Find(bins, {group: wanted_by_bin(counts[group], wanted) for group, wanted in ranks.items()}, ranking.distinct)
    found = _find(spark, _Bin(index, ranking, bins), find, rows)
    if pc.any(found["repeated"]).as_py():
        return None
    keys: Keys = {group: {} for group in ranks}
    for row in found.to_pylist():
        keys[row["group"]][row["rank"]] = row["key"]
    for group, wanted in ranks.items():
        width = max(map(len, keys[group].values()), default=MAX_BYTES)
        keys[group] |= {rank: past_the_end(width) for rank in wanted if rank >= sizes[group]}
    return keys


def _edges(spark: SparkSession, index: IndexFiles, ranking: Ranking, rows: int) -> tuple[bytes, ...]:
    """Some keys, ascending: of samples picked by their own keys, so that they are the same however tasks were cut."""
    sample = _Sample(index, ranking, min(_EDGES * 2**64 // rows, 2**64 - 1))
    found = index.numbers(spark).mapInArrow(sample, from_arrow_schema(_SAMPLED)).toArrow()
    return tuple(sorted(set(found["key"].to_pylist())))


def _count(spark: SparkSession, index: IndexFiles, ranking: Ranking, bins: Bins) -> dict[str, I64]:
    """The number of keys in each bin, by group."""
    counted = index.numbers(spark).mapInArrow(_Count(index, ranking, bins), from_arrow_schema(_COUNTED))
    out: dict[str, I64] = {}
    for row in counted.groupBy("group", "bin").agg(sf.sum("rows").alias("rows")).collect():
        out.setdefault(row["group"], np.zeros(bins.count, np.int64))[row["bin"]] = row["rows"]
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
    """Index rows with the bin of their key: equal keys meet in one task, and so does all of a bin."""

    index: IndexFiles
    ranking: Ranking
    bins: Bins

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in self.index.read(numbers, self.ranking.columns):
            groups, keys = self.ranking(batch)
            bins = pa.array(self.bins.of(keys).astype(np.int32))
            yield pa.RecordBatch.from_arrays([bins, groups, as_column(keys)], schema=_BINNED)


@dataclass(frozen=True)
class _Find:
    """The keys at the wanted ranks of the bins that came here; or one row that says that a key is there twice."""

    bins: Bins
    wanted: Mapping[str, Mapping[int, Sequence[Wanted]]]
    distinct: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = pa.Table.from_batches(batches, _BINNED)
        if self.distinct:
            ordered = np.sort(as_sortable(as_matrix(table["key"].combine_chunks())))
            if (ordered[1:] == ordered[:-1]).any():
                yield pa.RecordBatch.from_pylist([{"repeated": True}], _FOUND)
                return
        for group, wanted in self.wanted.items():
            own = table.filter(pc.equal(table["group"], group))["key"].combine_chunks()
            found = keys_at(self.bins, wanted, as_matrix(own))
            rows = [{"group": group, "rank": rank, "key": key, "repeated": False} for rank, key in found.items()]
            yield pa.RecordBatch.from_pylist(rows, _FOUND)


@dataclass(frozen=True)
class _Sample:
    """The keys of samples whose sample key, a hash itself, ends in a small number."""

    index: IndexFiles
    ranking: Ranking
    limit: int

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in self.index.read(numbers, dict.fromkeys([*self.ranking.columns, "key"])):
            ends = np.ascontiguousarray(as_matrix(batch["key"])[:, -8:]).view("<u8").ravel()
            keys = self.ranking(batch)[1][ends < np.uint64(self.limit)]
            yield pa.RecordBatch.from_arrays([as_column(keys)], schema=_SAMPLED)


@dataclass(frozen=True)
class _Count:
    """How many keys of each group lie in each bin."""

    index: IndexFiles
    ranking: Ranking
    bins: Bins

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in self.index.read(numbers, self.ranking.columns):
            groups, keys = self.ranking(batch)
            rows = pa.table({"group": groups, "bin": pa.array(self.bins.of(keys))})
            counted = rows.group_by(["group", "bin"]).aggregate([([], "count_all")])
            yield from counted.rename_columns({"count_all": "rows"}).select(_COUNTED.names).cast(_COUNTED).to_batches()
