"""A directory on this machine: the only storage that is written to so far."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shardwright.errors import CorruptError, StorageError
from shardwright.storage.base import check_name, local_path_of


class LocalStorage:
    """Files under a local directory. Writes are whole or absent, whenever the process is killed: temporary name, then rename.

    Nothing is forced to the disk: after a power failure `shardwright verify` tells whether a version had got there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.url = str(self.path)

    def local_path(self, name: str = "") -> Path:
        """The path of `name`; `name` may not lead out of the directory."""
        return self.path / check_name(name) if name else self.path

    def read(self, name: str) -> bytes:
        """The whole file."""
        return self.local_path(name).read_bytes()

    def ranges(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span."""
        out = []
        with open(self.local_path(name), "rb") as file:
            for start, end in spans:
                data = os.pread(file.fileno(), end - start, start)
                if len(data) != end - start:
                    raise CorruptError(f"{self.url}/{name}: expected bytes {start} to {end}, the file ends before that")
                out.append(data)
        return out

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self.local_path(name).stat().st_size

    def names(self, name: str = "") -> list[str]:
        """The names in a directory, sorted."""
        try:
            return sorted(os.listdir(self.local_path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str = "") -> bool:
        """Whether a file or directory of that name exists."""
        return self.local_path(name).exists()

    def make_directory(self, name: str = "") -> Path:
        """Create a directory with its parents; its path."""
        path = self.local_path(name)
        with clear_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing one that exists."""
        path = self.local_path(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with clear_errors(path):
            try:
                temporary.write_bytes(data)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not exist yet, in one step; False where it does."""
        path = self.local_path(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with clear_errors(path):
            try:
                temporary.write_bytes(data)
                os.link(temporary, path)  # atomic, with its content: a reader never sees an empty lock
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def rename(self, old: str, new: str) -> None:
        """Rename a file or directory to a name that does not exist yet. Raises FileExistsError."""
        source, target = self.local_path(old), self.local_path(new)
        with clear_errors(target):
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            os.rename(source, target)

    def touch(self, name: str) -> None:
        """Set a file's modification time to now. Raises FileNotFoundError."""
        os.utime(self.local_path(name))

    def age(self, name: str) -> float:
        """Seconds since a file was last written or touched. Raises FileNotFoundError."""
        return time.time() - self.local_path(name).stat().st_mtime

    def delete(self, name: str) -> None:
        """Remove a file or a whole directory; nothing happens where there is none."""
        path = self.local_path(name)
        with clear_errors(path):
            if path.is_dir() and not path.is_symlink():
                # out of the way first: what a killed run's last worker still writes there can't come back
                aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
                path.rename(aside)
                shutil.rmtree(aside)
            else:
                path.unlink(missing_ok=True)


def open_local(url: str) -> LocalStorage:
    """The local directory at `url`. Raises StorageError for a remote URL: writing there is not supported yet."""
    path = local_path_of(url)
    if path is None:
        raise StorageError(
            f"expected a local path or file:// to write to, found {url!r}: datasets are published to local storage only so far"
        )
    return LocalStorage(path)


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn what an operator can mend (space, permissions) into a StorageError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"no space left while writing {path}: nothing was published; free space and run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"no permission to write {path} ({error.strerror})") from error
        raise
