"""shardwright: raw data to equal, cleaned, checksummed Parquet shards, and a reader that feeds trainers from them.

Reading needs nothing but this::

    import shardwright as sw

    train = sw.open_dataset("build/datasets/mnist", split="train")
    for batch in train.loader(batch_size=256, seed=7, normalise=True):
        ...
"""

from shardwright import errors
from shardwright.order import Balanced, Topology, Weighted, World
from shardwright.reader import Dataset, Loader, open_dataset
from shardwright.transforms import CenterCrop, RandomCrop, RandomResizedCrop, Resize

__version__ = "0.1.0"
__all__ = [
    "Balanced",
    "CenterCrop",
    "Dataset",
    "Loader",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "Topology",
    "Weighted",
    "World",
    "__version__",
    "errors",
    "open_dataset",
]
