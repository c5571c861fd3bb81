"""`dataset_as_rdd`: a dataset's decoded rows in Spark."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shardwright.petastorm.columns import decode_value
from shardwright.petastorm.etl.dataset_metadata import get_schema_from_dataset_url
from shardwright.petastorm.unischema import Unischema, row_class


def dataset_as_rdd(
    dataset_url: str,
    spark_session: Any,
    schema_fields: Iterable[Any] | None = None,
    hdfs_driver: str = "libhdfs3",  # noqa: ARG001
) -> Any:
    """An RDD of rows, namedtuples of decoded values; of `schema_fields`, or all. `hdfs_driver` has no effect."""
    schema = get_schema_from_dataset_url(dataset_url)
    if schema_fields is not None:
        schema = schema.create_schema_view(schema_fields)
    frame = spark_session.read.parquet(dataset_url).select(*schema.fields)
    return frame.rdd.map(lambda row: _decoded(row, schema))


def _decoded(row: Any, schema: Unischema) -> Any:
    return row_class(schema)(*(decode_value(row[name], field) for name, field in schema.fields.items()))
