"""Reading a published dataset: no Spark, no JVM."""

from shardwright.reader.dataset import Dataset
from shardwright.reader.loader import Loader, LoaderOptions, Metrics
from shardwright.reader.open import open_dataset

__all__ = ["Dataset", "Loader", "LoaderOptions", "Metrics", "open_dataset"]
