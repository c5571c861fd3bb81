"""Petastorm, without its past: a drop-in for its readers, on current Python and pyarrow, that never runs a pickle.

Replace ``petastorm`` by ``shardwright.petastorm`` in imports. docs/petastorm.md says what is the same, what is better, and what
is refused.
"""

from shardwright.petastorm.errors import NoDataAvailableError
from shardwright.petastorm.reader import make_batch_reader, make_reader
from shardwright.petastorm.transform import TransformSpec

__all__ = ["NoDataAvailableError", "TransformSpec", "make_batch_reader", "make_reader"]
