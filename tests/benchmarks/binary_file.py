"""Contender: Spark's own source of whole files, `binaryFile`. Starts as a process of its own.

python -m tests.benchmarks.binary_file INPUT OUTPUT --memory 2g --files 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks.report import now, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--files", type=int, help="write so many Parquet files; without it, rows are read and dropped")
    args = parser.parse_args()

    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.memory", args.memory).getOrCreate()
    marks = {"session": now()}
    rows = session.read.format("binaryFile").option("recursiveFileLookup", "true").load(args.input.as_uri())
    if args.files is None:
        rows.write.format("noop").mode("overwrite").save()
    else:
        rows.repartition(args.files).write.parquet(args.output.as_uri())
    marks["done"] = now()
    session.stop()
    report(marks)


if __name__ == "__main__":
    main()
