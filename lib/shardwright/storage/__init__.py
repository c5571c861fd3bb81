"""Where datasets lie: a local directory, or any URL that fsspec knows (read only)."""

from shardwright.storage.base import Storage, check_name, open_storage
from shardwright.storage.local import LocalStorage, open_local
from shardwright.storage.lock import Lock

__all__ = ["LocalStorage", "Lock", "Storage", "check_name", "open_local", "open_storage"]
