"""Opening the files of an input wherever they lie, and seeing that they stay what they were found as."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from shardwright.errors import InputError
from shardwright.sources.base import InputFile
from shardwright.storage import Storage, open_storage

_THREADS = 16
"""Small remote files are fetched so many at a time: each costs three requests, which the servers answer side by side."""


def open_input(file: InputFile) -> BinaryIO:
    """The bytes of a file, to be read and sought in; a remote one is read ahead. Raises InputError where it can't be opened."""
    try:
        if not file.remote:
            return open(file.path, "rb")
        storage, name = locate(file.path)
        return storage.open(name)
    except OSError as error:
        raise unreadable(file, error) from error


def open_arrow(file: InputFile, *, mapped: bool = False) -> pa.NativeFile:
    """The same for Arrow; `mapped` takes a local file as a memory map, which does not copy. Raises InputError."""
    if file.remote:
        return pa.PythonFile(open_input(file), mode="r")
    try:
        return pa.memory_map(file.path) if mapped and file.bytes else pa.OSFile(file.path)
    except OSError as error:
        raise unreadable(file, error) from error


def read_input(file: InputFile) -> bytes:
    """All bytes of a file. Raises InputError where it can't be read, or is no longer what was found."""
    try:
        return _read_remote(file) if file.remote else _read_local(file)
    except OSError as error:
        raise unreadable(file, error) from error


def read_inputs(files: Sequence[InputFile]) -> list[bytes]:
    """All bytes of each of these files, remote ones some at a time. Raises InputError as `read_input`."""
    if not any(file.remote for file in files):
        return [read_input(file) for file in files]
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(read_input, files))


def read_beside(file: InputFile, name: str) -> tuple[str, bytes] | None:
    """The file `name` in the folder of `file`, or in the nearest folder above it within the input: its path and content."""
    for folder in folders_of(file):
        path = f"{folder}/{name}"
        data = read_if_there(path)
        if data is not None:
            return path, data
    return None


def folders_of(file: InputFile) -> list[str]:
    """The folder of a file and those above it within the input, the nearest first."""
    folders = [file.path.rpartition("/")[0]]
    for _ in range(file.name.count("/")):
        folders.append(folders[-1].rpartition("/")[0])
    return folders


def read_if_there(path: str) -> bytes | None:
    """All bytes of a file, by its path or URL; None where there is none. Raises InputError where it can't be read."""
    try:
        if "://" not in path:
            return Path(path).read_bytes()
        storage, inside = locate(path)
        return storage.read(inside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from error


def check_unchanged(file: InputFile) -> None:
    """Raise InputError unless the file still has the size and the time of modification that it was found with."""
    try:
        if file.remote:
            storage, name = locate(file.path)
            found = next(storage.listing(name), None)
            now = (found.bytes, found.modified_ns) if found and not found.name else None
        else:
            status = os.stat(file.path)
            now = status.st_size, status.st_mtime_ns
    except OSError as error:
        raise unreadable(file, error) from error
    if now != (file.bytes, file.modified_ns):
        raise _changed(file)


@contextmanager
def watched(file: InputFile) -> Iterator[None]:
    """A context to open and read a file in. Raises InputError where it can't be read, or is not what it was found as."""
    if not file.remote:  # where it costs a request, once is enough: what changed before has another time afterwards too
        check_unchanged(file)
    try:
        yield
    except OSError as error:
        raise unreadable(file, error) from error
    except InputError:
        check_unchanged(file)  # which tells better what happened
        raise
    check_unchanged(file)


def damaged(file: InputFile, expected: str, error: Exception) -> InputError:
    """What to raise for a file that can't be read as what is expected ("a Parquet file")."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{file.path}: expected {expected}, found one that can't be read ({told})")


def unreadable(file: InputFile, error: OSError) -> InputError:
    """What to raise for a file that was listed and can't be read."""
    if isinstance(error, FileNotFoundError):
        return InputError(
            f"{file.path}: can't be read ({error.strerror or 'no such file'}): it was removed after the job listed its input; "
            "run the job again when the input is complete"
        )
    return InputError(f"{file.path}: can't be read ({error.strerror or error})")


def locate(url: str) -> tuple[Storage, str]:
    """The storage that a remote file or folder lies on, and its name there. Raises StorageError where it can't be opened."""
    server, name = split_url(url)
    return _storage(server, os.getpid()), name


def split_url(url: str) -> tuple[str, str]:
    """scheme://server, and what follows it, without slashes around; one file of HDFS has one name here."""
    scheme, _, rest = url.partition("://")
    server, _, name = rest.partition("/")
    if scheme in ("hdfs", "webhdfs", "swebhdfs"):
        name = "/".join(filter(None, name.split("/")))  # object stores tell a//b and a/b apart
    return f"{scheme}://{server}", name.strip("/")


@functools.lru_cache(maxsize=64)
def _storage(server: str, pid: int) -> Storage:  # noqa: ARG001 - a client is of no use to a process that was forked
    return open_storage(server)


def _read_local(file: InputFile) -> bytes:
    descriptor = os.open(file.path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (file.bytes, file.modified_ns):
            raise _changed(file)
        pieces = []
        missing = file.bytes
        while missing and (piece := os.read(descriptor, missing)):
            pieces.append(piece)
            missing -= len(piece)
    finally:
        os.close(descriptor)
    if missing:
        raise _changed(file)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_remote(file: InputFile) -> bytes:
    storage, name = locate(file.path)
    data = storage.read(name)
    check_unchanged(file)  # alone, and afterwards: what changed before has another time too
    if len(data) != file.bytes:
        raise _changed(file)
    return data


def _changed(file: InputFile) -> InputError:
    return InputError(f"{file.path}: was changed while it was read; run the job again when the input is complete")
