"""Where datasets lie: a local directory, HDFS, or (read only) any URL that fsspec knows."""

from shardwright.storage.base import Storage, WritableStorage, check_name, open_storage, open_writable
from shardwright.storage.hdfs import HdfsStorage
from shardwright.storage.local import LocalStorage
from shardwright.storage.lock import Lock

__all__ = [
    "HdfsStorage",
    "LocalStorage",
    "Lock",
    "Storage",
    "WritableStorage",
    "check_name",
    "open_storage",
    "open_writable",
]
