"""What happens to samples on their way to the trainer: pure NumPy, one transform per file."""

from shardwright.transforms.normalise import Normalise

__all__ = ["Normalise"]
