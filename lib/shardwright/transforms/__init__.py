"""What happens to samples at write and on their way to the trainer: pure NumPy, one transform per file."""

from shardwright.transforms.apply import Apply
from shardwright.transforms.categories import Categories
from shardwright.transforms.describe import describe, describe_compression
from shardwright.transforms.geometry import DRAWS, CenterCrop, Geometry, RandomCrop, RandomResizedCrop, Resize
from shardwright.transforms.inverse import inverse
from shardwright.transforms.normalise import Normalise

__all__ = [
    "DRAWS",
    "Apply",
    "Categories",
    "CenterCrop",
    "Geometry",
    "Normalise",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "describe",
    "describe_compression",
    "inverse",
]
