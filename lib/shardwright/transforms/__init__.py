"""What happens to samples at write and on their way to the trainer: pure NumPy, one transform per file."""

from shardwright.transforms.apply import Apply
from shardwright.transforms.categories import Categories
from shardwright.transforms.describe import describe, describe_compression
from shardwright.transforms.inverse import inverse
from shardwright.transforms.normalise import Normalise

__all__ = ["Apply", "Categories", "Normalise", "describe", "describe_compression", "inverse"]
