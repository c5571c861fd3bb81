"""Finding the files of an input: a file, a folder, a glob, or a list of them, here or on another machine."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence

from shardwright.errors import InputError
from shardwright.sources.base import InputFile, Task
from shardwright.sources.file_names import show_names
from shardwright.sources.local_files import find_local
from shardwright.sources.remote_files import find_remote

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, a folder, a glob (`*`, `**`, `?`, `[]`), each as a local path or a URL (file://, hdfs:// and others), or several."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DOCUMENTATION = re.compile(r"(README|LICEN[CS]E|NOTICE|COPYING|CITATION)\b", re.IGNORECASE)
_FILE_BYTES = 64 * 2**10
"""What opening a file costs, as bytes that could be read meanwhile: 100,000 files of 1 kB are no single task."""

_log = logging.getLogger(__name__)


def find_files(paths: Paths) -> tuple[InputFile, ...]:
    """The files that `paths` name, sorted by name, each once.

    Folders are searched through; what begins with '.' or '_' in them is skipped. A file's `name` is relative to the folder, to
    the parent of a file named itself, or to the longest prefix of a glob that has no wildcard.

    Raises InputNotFoundError for a path that does not exist, a glob that matches nothing and a folder without files;
    InputError for what can't be read, and for one file found under two names; StorageError for a server that can't be asked.
    """
    wanted = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not wanted:
        raise InputError("expected a file, a folder or a glob to read, found an empty list")
    found: dict[str, InputFile] = {}
    for path in wanted:
        for file in _find(os.fspath(path)):
            other = found.setdefault(file.path, file)
            if other.name != file.name:
                raise InputError(
                    f"{file.path}: found twice, as {other.name!r} and as {file.name!r}; name folders that do not overlap"
                )
    return tuple(sorted(found.values(), key=lambda file: (file.name, file.path)))


def select_files(files: Sequence[InputFile], usable: Callable[[InputFile], bool], *, expected: str) -> tuple[InputFile, ...]:
    """The files that a format can use; the others are named in one line of warning, but for a README or licence.

    Raises InputError when no file is left.
    """
    kept = tuple(file for file in files if usable(file))
    if not kept:
        raise InputError(f"expected {expected}, found only {show_names([file.path for file in files])}")
    skipped = [file.name for file in files if not usable(file) and not is_documentation(file)]
    if skipped:
        _log.warning("expected %s: skipped %d of %d files: %s", expected, len(skipped), len(files), show_names(skipped))
    return kept


def is_documentation(file: InputFile) -> bool:
    """Whether it is a README, licence or the like, which lies beside data and is none."""
    return _DOCUMENTATION.match(file.name.rpartition("/")[2]) is not None


def check_unique_names(files: Sequence[InputFile]) -> None:
    """Raise InputError for one relative name under two roots: where a file is a sample, its name is the sample's identity."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(file.name, file.path)
        if other != file.path:
            raise InputError(
                f"{other} and {file.path} have the same name {file.name!r} relative to their roots, and that name identifies "
                "the sample; read a folder that holds both roots, or rename one"
            )


def pack_files(files: Sequence[InputFile], task_bytes: int) -> list[Task]:
    """Tasks of whole files, in order, of about `task_bytes` each with the cost of opening them."""
    out: list[Task] = []
    start = cost = 0
    for number, file in enumerate(files):
        if number > start and cost + file.bytes + _FILE_BYTES > task_bytes:
            out.append(_task(files[start:number]))
            start, cost = number, 0
        cost += file.bytes + _FILE_BYTES
    return [*out, _task(files[start:])] if files else out


def _task(files: Sequence[InputFile]) -> Task:
    return Task(files=tuple(files), start=0, stop=len(files), bytes=sum(file.bytes for file in files))


def _find(path: str) -> list[InputFile]:
    if not path:
        raise InputError("expected a file, a folder or a glob to read, found an empty path")
    scheme = _SCHEME.match(path)
    return find_remote(path) if scheme and scheme[1].lower() != "file" else find_local(path)
