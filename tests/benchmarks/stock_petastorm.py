"""Contender: stock Petastorm's `materialize_dataset` with NdarrayCodec. Starts in the environment of setup-oracle.sh.

python -m tests.benchmarks.stock_petastorm INPUT OUTPUT --memory 2g --files 8 [--repartition]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.idx import map_idx
from tests.benchmarks.report import now, report

warnings.filterwarnings("ignore")  # those of old libraries about each other

_ROW_GROUP_MB = 32


class ReadRows:
    """For `mapPartitions`: the numbered rows as Petastorm wants them."""

    def __init__(self, folder: Path, schema: Any) -> None:
        self._folder = folder
        self._schema = schema

    def __call__(self, numbers: Iterable[int]) -> Iterator[Any]:
        from petastorm.unischema import dict_to_spark_row  # type: ignore[import-not-found]

        images, labels = map_idx(self._folder)
        for number in numbers:
            yield dict_to_spark_row(self._schema, {"image": np.asarray(images[number]), "label": np.int32(labels[number])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--repartition", action="store_true", help="shuffle the rows, as shardwright and plain Spark do")
    args = parser.parse_args()

    from petastorm.codecs import NdarrayCodec, ScalarCodec  # type: ignore[import-not-found]
    from petastorm.etl.dataset_metadata import materialize_dataset  # type: ignore[import-not-found]
    from petastorm.unischema import Unischema, UnischemaField
    from pyspark.sql import SparkSession
    from pyspark.sql import types as sql

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.memory", args.memory).getOrCreate()
    marks = {"session": now()}
    images, _ = map_idx(args.input)
    schema = Unischema(
        "Benchmark",
        [
            UnischemaField("image", np.uint8, images.shape[1:], NdarrayCodec(), False),
            UnischemaField("label", np.int32, (), ScalarCodec(sql.IntegerType()), False),
        ],
    )
    url = args.output.as_uri()
    with materialize_dataset(spark, url, schema, row_group_size_mb=_ROW_GROUP_MB):
        numbers = spark.sparkContext.parallelize(range(len(images)), args.files)
        frame = spark.createDataFrame(numbers.mapPartitions(ReadRows(args.input, schema)), schema.as_spark_schema())
        frame = frame.repartition(args.files) if args.repartition else frame
        frame.write.mode("overwrite").parquet(url)
    marks["done"] = now()
    spark.stop()
    report(marks)


if __name__ == "__main__":
    main()
