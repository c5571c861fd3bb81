"""What the drop-in raises under Petastorm's own names.

::

    ShardwrightError
    ├── NoDataAvailableError                               more shards than row groups
    ├── PetastormMetadataError                             a `_common_metadata` that is absent, or lacks what was asked of it
    │   └── PetastormMetadataGenerationError               `materialize_dataset` found nothing that it could describe
    └── DecodeFieldError             (RuntimeError)        a value that its codec can't decode; the message names the field
"""

from __future__ import annotations

from shardwright.errors import ShardwrightError


class NoDataAvailableError(ShardwrightError):
    """Some shard would be left without a row group."""


class PetastormMetadataError(ShardwrightError):
    """The dataset's `_common_metadata` is absent, or lacks what was asked of it."""


class PetastormMetadataGenerationError(PetastormMetadataError):
    """`materialize_dataset` found nothing that it could describe."""


class DecodeFieldError(ShardwrightError, RuntimeError):
    """A value can't be decoded; the message names the field."""
