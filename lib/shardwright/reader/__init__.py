"""Reading a published dataset: no Spark, no JVM."""

from shardwright.reader.dataset import Dataset
from shardwright.reader.loader import Loader
from shardwright.reader.metrics import Metrics
from shardwright.reader.open import open_dataset
from shardwright.reader.options import LoaderArguments, LoaderOptions, OnError

__all__ = ["Dataset", "Loader", "LoaderArguments", "LoaderOptions", "Metrics", "OnError", "open_dataset"]
