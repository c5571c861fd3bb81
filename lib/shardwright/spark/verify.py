"""`verify` on Spark: a task for each part, statistics merged in the driver."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.reader import verify as reader
from shardwright.reader.verify_part import CheckPart, PartCheck, PartRows
from shardwright.spark.hosts import check_reachable
from shardwright.spark.progress import Passes
from shardwright.spark.published import published_parts
from shardwright.spark.reading import REPORT
from shardwright.spark.session import executor_errors, open_session
from shardwright.stages.standardise import collector


def verify(url: str, *, version: str = "latest", quiet: bool = False) -> reader.Report:
    """Compare all of a version with its manifest and index, statistics recomputed too, and list every problem found.

    Raises what `shardwright.reader.verify.verify` raises, and ConfigError for a plain local path where executors run on other
    machines.
    """
    session = open_session("verify")
    check_reachable(session.sparkContext.master, {url: "URL"})
    passes = Passes(session.sparkContext, quiet=quiet)

    def run(check: CheckPart, parts: Sequence[PartRows]) -> Iterable[PartCheck]:
        numbers = session.range(0, len(parts), 1, len(parts))
        with passes.show("verify"), executor_errors():
            rows = numbers.mapInArrow(_CheckParts(check), from_arrow_schema(REPORT)).collect()
        return [PartCheck.from_json(json.loads(row.report)) for row in rows]

    return reader.verify(url, version=version, collector=collector, run=run)


@dataclass(frozen=True)
class _CheckParts:
    """The check of the parts whose numbers Spark hands out."""

    check: CheckPart

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                check = self.check
                parts = published_parts(check.storage.url, check.version, check.content.index.sha256)
                found = check(parts[number])
                yield pa.RecordBatch.from_pylist([{"report": json.dumps(vars(found))}], REPORT)
