"""hdfs-native's clients: one for each NameNode or nameservice and process."""

from __future__ import annotations

import functools
import os
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from shardwright.errors import MissingDependencyError, StorageError
from shardwright.storage.hadoop import configuration, is_secure, rpc_url
from shardwright.storage.hadoop_tokens import as_tokens_have_it
from shardwright.storage.hdfs_errors import trying
from shardwright.storage.hdfs_options import HdfsOptions

_QUICK = {
    "dfs.client.failover.max.attempts": "6",
    "dfs.client.failover.sleep.base.millis": "100",
    "dfs.client.failover.sleep.max.millis": "1000",
}
"""For a NameNode that may not be there: about 5 s. What hdfs-native does otherwise takes 3 minutes."""
_ANSWER_SECONDS = 20.0
_IN_FLIGHT = 8
"""Requests at once. Of 64 KiB one takes 1.3 ms alone, and 0.4 ms beside seven others; a disk's seek would be hidden as well."""


class Connection:
    """The client of one NameNode or nameservice in this process; threads share it."""

    def __init__(self, url: str) -> None:
        self.settings = configuration()
        self.server = rpc_url(url, self.settings)
        self._native = _hdfs_native()
        self.client = self._open({})
        self._behind: float | None = None

    def check(self) -> None:
        """Raise StorageError unless the NameNode answers, within seconds: more likely than down, its name is misspelt."""
        outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def ask() -> None:
            try:
                self.quick.get_file_info("/")
            except BaseException as error:  # noqa: BLE001 - raised by who waits
                outcome.put(error)
            else:
                outcome.put(None)

        threading.Thread(target=ask, name="shardwright-hdfs-check", daemon=True).start()  # it can hang on a port that is silent
        try:
            error = outcome.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise StorageError(
                f"can't reach {self.server}: no answer in {_ANSWER_SECONDS:.0f} s: is this the NameNode's RPC port, and is "
                "there no firewall between?"
            ) from None
        if error is not None:
            trying("reach", self.server, lambda: _raise(error))

    @functools.cached_property
    def quick(self) -> Any:
        """A client that gives up within seconds."""
        return self._open(_QUICK)

    @functools.cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for requests at once: hdfs-native lets go of the interpreter while it waits."""
        return ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="shardwright-hdfs")

    def write_options(self, options: HdfsOptions, size: int) -> Any:
        """What a file of `size` bytes is created with, in a directory that must exist."""
        return self._native.WriteOptions(
            block_size=options.block_of(size, self.settings), replication=options.replication,
            permission=options.permission(0o666, self.settings), create_parent=False,
        )  # fmt: skip

    def trash(self, path: str) -> str | None:
        """Move `path` to the user's trash: where it lies now, or None when trash is switched off."""
        try:
            return str(self.client.trash(path))
        except self._native.TrashNotEnabledError:
            return None

    def _open(self, settings: Mapping[str, str]) -> Any:
        server = as_tokens_have_it(self.server) if is_secure(self.settings) else self.server
        client = self._native.Client(server, {**self.settings, **settings})  # hdfs-native itself fills in no ${…}
        _CLIENTS.append(client)
        return client

    def learn_clock(self, written: int) -> None:
        """`written`, in ms, is the NameNode's time now, to some ms: it just noted it as a file's modification time."""
        self._behind = written / 1000 - time.monotonic()

    def now(self) -> float | None:
        """The NameNode's time in seconds since 1970; None where it was not learnt yet."""
        return None if self._behind is None else time.monotonic() + self._behind


_CONNECTIONS: dict[tuple[int, str, str | None, str | None], Connection] = {}
"""A client that a fork brought along hangs: the process is part of the key."""
_CLIENTS: list[Any] = []
"""All ever opened, also to servers that did not answer: a child hangs where it throws one away that a fork brought."""


def connect(url: str, *, known: bool) -> Connection:
    """This process's connection to the server of `url`.

    Where it was not `known` to be there, the first use finds out within seconds; a NameNode that was there once is waited for.
    Raises MissingDependencyError, StorageError.
    """
    key = _key(url)
    found = _CONNECTIONS.get(key)
    if found is None:
        found = trying("reach", url, lambda: Connection(url))
        if not known:
            found.check()
        found = _CONNECTIONS.setdefault(key, found)
    return found


def connected(url: str) -> bool:
    """Whether this process has reached the server of `url`."""
    return _key(url) in _CONNECTIONS


def _key(url: str) -> tuple[int, str, str | None, str | None]:
    return os.getpid(), url, os.environ.get("HADOOP_USER_NAME"), os.environ.get("HADOOP_CONF_DIR")


def _hdfs_native() -> ModuleType:
    try:
        import hdfs_native
    except ImportError as error:
        raise MissingDependencyError("hdfs:// needs hdfs-native: pip install 'shardwright[hdfs]'") from error
    return hdfs_native


def _raise(error: BaseException) -> None:
    raise error
