"""Where datasets lie: a local directory, HDFS, or (read only) any URL that fsspec knows."""

from shardwright.storage.base import Listed, Storage, WritableStorage, check_name, open_storage, open_writable
from shardwright.storage.hdfs import HdfsStorage
from shardwright.storage.hdfs_options import HdfsOptions
from shardwright.storage.local import LocalStorage
from shardwright.storage.lock import Lock

__all__ = [
    "HdfsOptions",
    "HdfsStorage",
    "Listed",
    "LocalStorage",
    "Lock",
    "Storage",
    "WritableStorage",
    "check_name",
    "open_storage",
    "open_writable",
]
