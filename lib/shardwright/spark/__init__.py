"""The batch side: Spark runs the passes. The only package that imports pyspark."""

from shardwright.spark.pipeline import is_due, prepare, stored_schema, write_dataset
from shardwright.spark.session import open_session

__all__ = ["is_due", "open_session", "prepare", "stored_schema", "write_dataset"]
