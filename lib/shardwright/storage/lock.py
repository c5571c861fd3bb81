"""The lock that a publish holds: a file created exclusively, with its owner and a heartbeat."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from shardwright.errors import LockedError
from shardwright.storage.base import WritableStorage

_log = logging.getLogger(__name__)
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
WATCH_SECONDS = 30.0
"""A lock without a beat for so long is watched before it is taken over: where the storage was away meanwhile, a NameNode that
was restarted, its owner could not beat, and does so as soon as it notices that it is back."""
WAIT_SECONDS = 5.0
"""How often one who waits looks whether the lock is free."""
_ASIDE = ".stale-"


class Lock:
    """Holds `name` in `storage` while in its context.

    A lock is stale when its owner ran on this host and is gone, or after 60 s without a beat and 30 s of watching for one. A
    stale one is renamed to a name made of its content, which stays taken while its successor holds the lock, and created anew:
    so of several processes that find it stale one wins, and a slow one does not take the winner's lock away. Raises
    LockedError on entry when somebody else holds it, and does so for `wait_seconds`.
    """

    def __init__(self, storage: WritableStorage, name: str = "_LOCK", *, wait_seconds: float = 0) -> None:
        self._storage = storage
        self._name = name
        self._wait_seconds = wait_seconds
        self._owner = {**_this_process(), "id": uuid.uuid4().hex}
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, name="shardwright-lock", daemon=True)

    def __enter__(self) -> Self:
        began, told = time.monotonic(), False
        while not self._take():
            if (left := began + self._wait_seconds - time.monotonic()) <= 0:
                raise LockedError(self._held_by())
            if not told:
                _log.warning("%s; waiting, for %.0f s at most", self._held_by(), left)
                told = True
            time.sleep(min(WAIT_SECONDS, left))
        self._beat.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._beat.join()
        if self._mine():
            aside = [name for name in self._storage.names() if name.startswith(f"{self._name}{_ASIDE}")]
            for name in (self._name, *aside):
                self._storage.delete(name)

    def check(self) -> None:
        """Raise LockedError unless this process still holds the lock."""
        if not self._mine():
            raise LockedError(f"lost the lock of {self._storage.url} ({self._held_by()}); nothing was published")

    def held(self) -> str | None:
        """Who holds it, "" for somebody whose lock is stale, None for nobody."""
        owner = self._read()
        if owner is None:
            return None
        return "" if self._dead(owner) or self._silent() else f"process {owner.get('pid')} on {owner.get('host')}"

    def _take(self) -> bool:
        """Whether the lock is this one's now: it was free, or stale."""
        data = json.dumps(self._owner, sort_keys=True).encode()
        self._storage.make_directory()
        if self._storage.create(self._name, data):
            return True
        if (stale := self._stale_lock()) is not None:
            self._put_aside(stale)
        return self._storage.create(self._name, data)

    def _mine(self) -> bool:
        return self._read() == self._owner

    def _read(self) -> dict[str, object] | None:
        data = self._bytes()
        return None if data is None else _owner(data)

    def _bytes(self) -> bytes | None:
        try:
            return self._storage.read(self._name)
        except FileNotFoundError:
            return None

    def _stale_lock(self) -> bytes | None:
        """The lock as it is, when it is stale."""
        data = self._bytes()
        return data if data is not None and (self._dead(_owner(data)) or self._stays_silent()) else None

    def _put_aside(self, stale: bytes) -> None:
        """Take the lock with the content `stale` out of the way, unless another process is about it."""
        aside = f"{self._name}{_ASIDE}{hashlib.sha256(stale).hexdigest()[:16]}"
        try:
            self._storage.rename(self._name, aside)
        except (FileNotFoundError, FileExistsError):
            return  # another process took it over first
        with suppress(FileNotFoundError, FileExistsError):
            if self._storage.read(aside) != stale:  # this one slept, while another took over and gave back: it is a third one's
                self._storage.rename(aside, self._name)

    def _dead(self, owner: dict[str, object]) -> bool:
        """Whether the owner ran on this host and is gone."""
        here = _this_process()
        return owner.get("host") == here["host"] and (
            owner.get("boot_id") != here["boot_id"] or _start_time(owner.get("pid")) != owner.get("start_time")
        )

    def _silent(self) -> bool:
        try:
            return self._storage.age(self._name) > STALE_SECONDS
        except FileNotFoundError:
            return True

    def _stays_silent(self) -> bool:
        until = time.monotonic() + WATCH_SECONDS
        while self._silent():
            if time.monotonic() >= until:
                return True
            time.sleep(min(1.0, WATCH_SECONDS))
        return False

    def _held_by(self) -> str:
        owner = self._read()
        if owner is None:
            return (
                f"{self._storage.url}/{self._name} is not there now: was the directory removed, or has its holder just ended?"
            )
        return (
            f"another publish holds {self._storage.url}: process {owner.get('pid')} on {owner.get('host')}; "
            f"wait for it to end (a dead owner's lock is taken over by itself)"
        )

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with suppress(OSError):  # a file system that is away for a moment; `check` decides before anything is published
                if self._mine():  # another's is not kept fresh for it
                    self._storage.touch(self._name)


def _owner(data: bytes) -> dict[str, object]:
    """What a lock says; {} for one that says nothing."""
    try:
        owner = json.loads(data)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _this_process() -> dict[str, object]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "boot_id": boot.read_text().strip() if boot.exists() else None,
        "pid": os.getpid(),
        "start_time": _start_time(os.getpid()),
    }


def _start_time(pid: object) -> str | None:
    """What tells a process from a later one of the same number: its start time where /proc has it; None when it is gone."""
    if not isinstance(pid, int):
        return None
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
