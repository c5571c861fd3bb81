"""The Spark half of the drop-in: DataFrames that become datasets for trainers. Needs the [spark] extra."""

from shardwright.petastorm.spark.spark_dataset_converter import SparkDatasetConverter, make_spark_converter

__all__ = ["SparkDatasetConverter", "make_spark_converter"]
