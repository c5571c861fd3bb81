"""Every error that shardwright raises on purpose.

::

    ShardwrightError
    ├── ConfigError                (ValueError)           a configuration with problems, all of them listed
    ├── SchemaError                (ValueError)           a field or schema that can't be
    ├── InputError                 (ValueError)           raw data that can't be read as what it claims to be
    │   └── InputNotFoundError     (FileNotFoundError)    a path or glob that matches nothing
    ├── EncodeError                (ValueError)           a value that its codec can't hold
    ├── PredicateError             (ValueError)           a predicate that can't be read, or does not fit the fields
    ├── KeyConflictError           (ValueError)           one sample key, different contents
    ├── TooManyRejectedError       (ValueError)           the quarantine grew past its limit
    ├── CompressionError           (ValueError)           a measured bound of compression that does not hold
    ├── BalanceError               (ValueError)           a split can't be cut into that many shards
    ├── DatasetNotFoundError       (FileNotFoundError)    no published version at that place
    ├── DatasetConflictError       (FileExistsError)      a dataset prepared with another configuration
    ├── LockedError                (RuntimeError)         another publish holds the dataset
    ├── CorruptError               (ValueError)           published bytes that are not what was published
    │   └── DecodeError                                   a value that can't be decoded
    ├── FormatVersionError         (ValueError)           written by a newer shardwright
    ├── UnsafeMetadataError        (ValueError)           metadata of others that would run code, or lead astray
    ├── StateError                 (ValueError)           a loader state that belongs to something else
    ├── WorldError                 (ValueError)           ranks, nodes and shards that don't fit together
    ├── WorkerDiedError            (RuntimeError)         a worker's process that is gone
    ├── StorageError               (OSError)              the file system refused
    └── MissingDependencyError     (ImportError)          an extra that is not installed
"""

from __future__ import annotations


class ShardwrightError(Exception):
    """The root of all errors raised on purpose."""


class ConfigError(ShardwrightError, ValueError):
    """A configuration with one or more problems; ``problems`` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = f"{len(problems)} problems in the configuration" if len(problems) > 1 else "bad configuration"
        super().__init__(f"{count}:\n" + "\n".join(f"  {problem}" for problem in problems))


class SchemaError(ShardwrightError, ValueError):
    """A field or a schema that can't be."""


class InputError(ShardwrightError, ValueError):
    """Raw data that can't be read as what it claims to be."""


class InputNotFoundError(InputError, FileNotFoundError):
    """A path or glob that matches nothing."""


class EncodeError(ShardwrightError, ValueError):
    """A value that its codec can't hold: too large, not finite, of another shape."""


class PredicateError(ShardwrightError, ValueError):
    """A predicate that can't be read, or does not fit the fields."""


class KeyConflictError(ShardwrightError, ValueError):
    """Samples of one configured key with different contents."""


class TooManyRejectedError(ShardwrightError, ValueError):
    """More samples were rejected than ``clean.max_rejected`` allows."""


class CompressionError(ShardwrightError, ValueError):
    """What compression made of a field is outside of a bound that was set for it."""


class BalanceError(ShardwrightError, ValueError):
    """A split can't be cut into the wanted number of shards."""


class DatasetNotFoundError(ShardwrightError, FileNotFoundError):
    """No published version at that place."""


class DatasetConflictError(ShardwrightError, FileExistsError):
    """The dataset was prepared with another configuration."""


class LockedError(ShardwrightError, RuntimeError):
    """Another publish holds the dataset."""


class CorruptError(ShardwrightError, ValueError):
    """Published bytes are not what was published."""


class DecodeError(CorruptError):
    """A value can't be decoded."""


class FormatVersionError(ShardwrightError, ValueError):
    """Written by a newer shardwright than this one."""


class UnsafeMetadataError(ShardwrightError, ValueError):
    """Metadata that somebody else wrote is not what it may be: a pickle that names what would run, a path that leads out."""


class StateError(ShardwrightError, ValueError):
    """A loader state belongs to another dataset, seed, order or selection."""


class WorldError(ShardwrightError, ValueError):
    """Ranks, nodes and shards don't fit together."""


class WorkerDiedError(ShardwrightError, RuntimeError):
    """The process of a Spark worker is gone."""


class StorageError(ShardwrightError, OSError):
    """The file system refused an operation."""


class MissingDependencyError(ShardwrightError, ImportError):
    """An optional dependency is not installed."""
