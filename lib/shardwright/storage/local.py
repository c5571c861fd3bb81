"""A directory on this machine."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from shardwright.errors import CorruptError, StorageError
from shardwright.storage.base import Listed, check_name


class LocalStorage:
    """Files under a local directory. Writes are whole or absent, whenever the process is killed: temporary name, then rename.

    Nothing is forced to the disk: after a power failure `shardwright verify` tells whether a version had got there.
    """

    gap_bytes = 4096

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

    def open(self, name: str) -> BinaryIO:
        """The file, to be read and sought in."""
        return open(self.local_path(name), "rb")

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self.local_path(name).stat().st_size

    def names(self, name: str = "") -> list[str]:
        """The names in a directory, sorted."""
        try:
            return sorted(os.listdir(self.local_path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def listing(self, name: str = "") -> Iterator[Listed]:
        """Every file below a directory, or the file itself."""
        root = self.local_path(name)
        if root.is_dir():
            for path in root.rglob("*"):
                if path.is_file():
                    yield _listed(path.relative_to(root).as_posix(), path.stat())
        else:
            yield _listed("", root.stat())

    def exists(self, name: str = "") -> bool:
        """Whether a file or directory of that name exists."""
        return self.local_path(name).exists()

    def files(self, name: str = "") -> dict[str, int]:
        """Every file below a directory, with its bytes."""
        try:
            return {one.name: one.bytes for one in sorted(self.listing(name))}
        except FileNotFoundError:
            return {}

    def child(self, name: str) -> Self:
        """The storage of a directory in this one."""
        return type(self)(self.local_path(name))

    def make_directory(self, name: str = "") -> None:
        """Create a directory with its parents."""
        path = self.local_path(name)
        with clear_errors(path):
            path.mkdir(parents=True, exist_ok=True)

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

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """The path of the file itself."""
        path = self.local_path(name)
        with clear_errors(path):
            yield path

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

    def delete(self, name: str = "") -> None:
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

    def discard(self, name: str) -> None:
        """Remove what was published for good: there is no trash here."""
        self.delete(name)


def _listed(name: str, status: os.stat_result) -> Listed:
    return Listed(name, status.st_size, status.st_mtime_ns)


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
