"""Whole files of remote datasets on a disk of this node, shared by all its processes; `reader.filling` says when they come.

In the directory, all names made here and none by a dataset::

    <sha256>                   a file, named by its content, so that versions and datasets share it
    <sha256>.json              its bytes, modification time and inode when its checksum was right; itself touched at each use
    <sha256>.<random>.partial  a file on its way, of its full size; locked by who fetches it
    <random>.lease             the sha256 of all files of a version that is open in a process, which locks it
    <content_id>.filling       locked by the one process that fetches files of a version
    cache.lock                 locked for moments, by who counts bytes and removes files

Locks are flock's: the system frees them whenever a process ends, and what was locked and no longer is gets removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shardwright.errors import ConfigError, CorruptError, StorageError

_log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES = 8 * 2**20
_FREE_SHARE = 10
"""Without a limit one tenth of the disk stays free."""


class Content(NamedTuple):
    """What a file holds."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CachePlace:
    """A directory of this node, and how many bytes of files may lie in it; None: all but a tenth of its disk.

    Raises ConfigError for a limit that can't be.
    """

    directory: str
    limit_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.limit_bytes is not None and self.limit_bytes < 1:
            raise ConfigError([f"cache_limit_bytes: expected at least 1, found {self.limit_bytes!r}"])

    def prepare(self) -> None:
        """Make the directory, and remove what killed processes left.

        Raises StorageError where nothing can be written or locked.
        """
        path = Path(self.directory)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with _locked(path / "cache.lock"), open(path / "cache.lock", "rb") as other:
                if _try_lock(other.fileno()):
                    raise StorageError(
                        f"cache: locks have no effect in {path}; give a directory on a disk of this node, not on a network "
                        "file system"
                    )
                _sweep(path)
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"cache: can't write in {path} ({error.strerror}); give a directory that this user can write in, or leave "
                "cache= out"
            ) from error


class NoRoomError(StorageError):
    """A file does not fit."""


class PartCache:
    """The files `contents` of one version, where they lie in the cache. None of them is removed while this object exists.

    Used by any number of threads and processes; after a fork open a new one. Raises StorageError as `CachePlace.prepare` does.
    """

    def __init__(self, place: CachePlace, contents: Iterable[Content]) -> None:
        place.prepare()
        self.path, self.limit = Path(place.directory), place.limit_bytes
        self._found: set[str] = set()
        with self._account():
            lease = os.open(self.path / f"{uuid.uuid4().hex}.lease", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            weakref.finalize(self, os.close, lease)
            _try_lock(lease)
            try:
                _write(lease, "".join(f"{_checked(content)}\n" for content in contents).encode())
            except OSError as error:  # a full disk: what is there may be removed under this reader, who has it mapped
                _log.warning("cache: %s: %s", self.path, error.strerror)

    def find(self, content: Content) -> Path | None:
        """Where a file lies; None: it is not there.

        One that was touched since its checksum was found right is read through once more, and removed if it is damaged.
        """
        path = self.path / _checked(content)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        if content.sha256 in self._found:
            return path
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size != content.bytes or not self._sound(path, content, status):
            _log.warning("cache: %s is not what was written there: removed, and fetched again", path)
            self._remove(content.sha256)
            return None
        with suppress(OSError):
            os.utime(_stamp(path))
        self._found.add(content.sha256)
        return path

    def bring(
        self, content: Content, read: Callable[[int, int], bytes], *, where: str, going: Callable[[], bool] = lambda: True
    ) -> bool:
        """Put a file there whose bytes [start, stop) are `read(start, stop)`, unless it is there.

        False: another process is at it, or `going` said no. Raises NoRoomError when it does not fit, CorruptError, naming
        `where`, when `read` twice gave other bytes than those of the checksum; what `read` raises.
        """
        found = ""
        for _ in range(2):
            if self.find(content) is not None:
                return True
            reserved = self._reserve(content)
            if reserved is None:
                return False
            partial, file = reserved
            try:
                found = self._copy(file, content, read, going)
                if found == content.sha256:
                    path = self.path / content.sha256
                    os.fsync(file)  # or else a power failure could leave a file of the right size, and empty
                    _write_stamp(path, os.fstat(file))
                    os.rename(partial, path)
                    return True
                if not found:
                    return False
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise NoRoomError(f"no space left in {self.path}") from error
                raise
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(partial)
                os.close(file)
        raise CorruptError(f"{where}: expected sha256 {content.sha256}, found {found}, twice; copy the file there again")

    def claim(self, name: str) -> int | None:
        """A descriptor, to be closed, that says that this process fetches the files of version `name`; None: another does."""
        path = self.path / f"{_checked(Content(name, 0))}.filling"
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _try_lock(file):
                os.close(file)
                return None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file
            os.close(file)  # removed between opening and locking, as left by nobody

    def _account(self) -> AbstractContextManager[None]:
        return _locked(self.path / "cache.lock")

    def _reserve(self, content: Content) -> tuple[Path, int] | None:
        """A file on its way, of its full size, locked; None where another process has one. Raises NoRoomError."""
        partial = self.path / f"{content.sha256}.{uuid.uuid4().hex}.partial"
        with self._account():
            leased = _sweep(self.path)
            if any(self.path.glob(f"{content.sha256}.*.partial")):
                return None
            self._make_room(content.bytes, leased)
            file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            _try_lock(file)
            try:
                _set_size(file, content.bytes)
            except OSError as error:
                os.unlink(partial)
                os.close(file)
                raise NoRoomError(f"no space left in {self.path} ({error.strerror})") from error
        return partial, file

    def _make_room(self, nbytes: int, leased: set[str]) -> None:
        """Remove files that nobody uses, the one used longest ago first; none, where that would not be enough."""
        used, idle = 0, []
        with os.scandir(self.path) as entries:
            for entry in entries:
                if _SHA256.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # without a stamp it is not ours
                        last = os.stat(f"{entry.path}.json").st_mtime_ns
                        size = entry.stat(follow_symlinks=False).st_size
                        used += size
                        if entry.name not in leased:
                            idle.append((last, entry.name, size))
                elif entry.name.endswith(".partial"):
                    used += entry.stat(follow_symlinks=False).st_size
        disk = shutil.disk_usage(self.path)
        limit = used + disk.free - disk.total // _FREE_SHARE if self.limit is None else self.limit
        excess = used + nbytes - limit
        if excess > sum(size for _, _, size in idle):
            raise NoRoomError(f"{self.path} holds {used} bytes of at most {max(limit, 0)}, and {nbytes} more do not fit")
        for _, name, size in sorted(idle):
            if excess <= 0:
                break
            _unlink_entry(self.path / name)
            excess -= size

    def _copy(self, file: int, content: Content, read: Callable[[int, int], bytes], going: Callable[[], bool]) -> str:
        """Write the file; the sha256 of what was written, or '' where it was told to stop."""
        digest = hashlib.sha256()
        for start in range(0, content.bytes, _PIECE_BYTES):
            if not going():
                return ""
            data = read(start, min(start + _PIECE_BYTES, content.bytes))
            digest.update(data)
            _write(file, data)
        return digest.hexdigest()

    def _sound(self, path: Path, content: Content, status: os.stat_result) -> bool:
        with suppress(OSError, ValueError):
            if json.loads(_stamp(path).read_bytes()) == _identity(status):
                return True
        with open(path, "rb") as file:
            sound = hashlib.file_digest(file, "sha256").hexdigest() == content.sha256
        if sound:
            with suppress(OSError):
                _write_stamp(path, status)
        return sound

    def _remove(self, sha256: str) -> None:
        with self._account():
            _unlink_entry(self.path / sha256)


def _checked(content: Content) -> str:
    """The name of a file in the cache. An index is not trusted to hold nothing but checksums."""
    if not _SHA256.fullmatch(content.sha256):
        raise CorruptError(f"expected a sha256 of 64 hexadecimal digits, found {content.sha256!r}; restore the index")
    return content.sha256


def _sweep(path: Path) -> set[str]:
    """Remove what processes left that have ended; the sha256 of all files that others have open. Under the cache's lock."""
    leased: set[str] = set()
    names = set(os.listdir(path))
    for name in names:
        if name.endswith((".partial", ".lease", ".filling")):
            with suppress(FileNotFoundError), open(path / name, "rb") as file:
                if _try_lock(file.fileno()):
                    os.unlink(path / name)
                elif name.endswith(".lease"):
                    leased.update(file.read().decode().split())
    for name in names:
        sha256 = name.removesuffix(".json")
        # the stamp comes before the file does: looked at in this order, a file that arrives meanwhile is not missed
        if name.endswith(".json") and _SHA256.fullmatch(sha256) and sha256 not in names:
            coming = any(path.glob(f"{sha256}.*.partial"))
            if not coming and not (path / sha256).exists():
                (path / name).unlink(missing_ok=True)
    return leased


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_size(file: int, nbytes: int) -> None:
    """Take the room on the disk now, where the system can: better than half a transfer for nothing."""
    if nbytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, nbytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        else:
            return
    os.truncate(file, nbytes)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _stamp(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _identity(status: os.stat_result) -> dict[str, int]:
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "inode": status.st_ino}


def _write_stamp(path: Path, status: os.stat_result) -> None:
    """Half a stamp is none: the file is read through once more."""
    _stamp(path).write_text(json.dumps(_identity(status)))


def _unlink_entry(path: Path) -> None:
    """The file first: a stamp alone is removed by the next sweep."""
    path.unlink(missing_ok=True)
    _stamp(path).unlink(missing_ok=True)
