"""Contender: Spark's own writer, `repartition(8).write.parquet`, no more. Starts as a process of its own.

python -m tests.benchmarks.plain_spark INPUT OUTPUT --memory 2g --files 8
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tests.benchmarks.idx import map_idx
from tests.benchmarks.report import now, report

_TASK_BYTES = 128 * 2**20
_BATCH_BYTES = 8 * 2**20


class ReadRows:
    """For `mapInArrow`: the rows from each `id` on, `task_rows` of them, as (image binary, label int)."""

    def __init__(self, folder: Path, task_rows: int) -> None:
        self._folder = folder
        self._task_rows = task_rows

    def __call__(self, tasks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        images, labels = map_idx(self._folder)
        width = images[0].nbytes
        step = max(1, _BATCH_BYTES // width)
        for first in (first for task in tasks for first in task["id"].to_pylist()):
            stop = min(first + self._task_rows, len(images))
            for start in range(first, stop, step):
                end = min(start + step, stop)
                values = pa.py_buffer(images[start:end])
                cells = pa.Array.from_buffers(pa.binary(width), end - start, [None, values]).cast(pa.binary())
                yield pa.RecordBatch.from_arrays([cells, pa.array(labels[start:end], pa.int32())], names=["image", "label"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--files", type=int, required=True)
    args = parser.parse_args()

    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.memory", args.memory).getOrCreate()
    marks = {"session": now()}
    images, _ = map_idx(args.input)
    task_rows = max(1, _TASK_BYTES // images[0].nbytes)
    tasks = -(-len(images) // task_rows)
    starts = session.range(0, len(images), task_rows, tasks)
    rows = starts.mapInArrow(ReadRows(args.input, task_rows), "image binary, label int")
    rows.repartition(args.files).write.parquet(args.output.as_uri())
    marks["done"] = now()
    session.stop()
    report(marks)


if __name__ == "__main__":
    main()
