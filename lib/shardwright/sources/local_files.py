"""Finding input files on this machine."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from shardwright.errors import InputError, InputNotFoundError
from shardwright.sources.base import InputFile
from shardwright.sources.file_names import hidden, tell_folder
from shardwright.storage.base import local_path_of

_WILDCARD = re.compile(r"[*?\[]")


def find_local(path: str) -> list[InputFile]:
    """The files at a path or file:// URL: that one, all below that folder, or what matches its wildcards.

    Raises InputNotFoundError where there is none, InputError for what can't be listed or read.
    """
    found = local_path_of(path)
    assert found is not None  # no scheme, or file://
    local = Path(os.path.abspath(found))  # without '..': one file has one path here
    if local.is_file():
        return [_input_file(str(local), local.name, local.stat())]
    if local.is_dir():
        files = list(_walk(str(local), "", frozenset()))
        if not files:
            raise InputNotFoundError(
                f"no files to read in the folder {local} (names that begin with '.' or '_' are skipped); {_listing(local)}"
            )
        return files
    if _WILDCARD.search(str(local)):
        return _find_glob(local)
    raise InputNotFoundError(f"no file or folder {local}; {_nearby(local)}")


def _find_glob(pattern: Path) -> list[InputFile]:
    first = next(i for i, part in enumerate(pattern.parts) if _WILDCARD.search(part))
    root = Path(*pattern.parts[:first])
    if not root.is_dir():
        raise InputNotFoundError(f"the glob {pattern} matches nothing: no folder {root}; {_nearby(root)}")
    files: dict[str, InputFile] = {}
    for match in glob.iglob("/".join(pattern.parts[first:]), root_dir=root, recursive=True):
        name = match.rstrip("/")
        if any(hidden(part) for part in name.split("/")):
            continue
        full = os.path.join(root, name) if name else str(root)
        if os.path.isdir(full):
            files.update((file.path, file) for file in _walk(full, f"{name}/" if name else "", frozenset()))
        else:
            files[full] = _input_file(full, name, _stat(full))
    if not files:
        raise InputNotFoundError(f"the glob {pattern} matches nothing; {_listing(root)}")
    return list(files.values())


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[InputFile]:
    """The files under `folder`, through links too: a linked class folder left out would go unnoticed."""
    status = _stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise InputError(f"{folder}: a link that leads back to a folder above it; remove the link, or read a narrower path")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: can't be listed ({error.strerror})") from error
    for entry in entries:
        if hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {identity})
        else:
            yield _input_file(entry.path, prefix + entry.name, _stat(entry))


def _stat(path: str | os.DirEntry[str]) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: can't be read ({error.strerror})") from error


def _input_file(path: str, name: str, status: os.stat_result) -> InputFile:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: expected a file name in UTF-8; rename the file") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: expected a file, found a pipe, socket or device; remove it, or read a narrower path")
    return InputFile(path=path, name=name, bytes=status.st_size, modified_ns=status.st_mtime_ns)


def _nearby(path: Path) -> str:
    """What there is instead of `path`: the nearest folder that exists, the likeliest name in it, and some of its names."""
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    return _listing(missing.parent, missing.name)


def _listing(folder: Path, like: str = "") -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"{folder} can't be listed ({error.strerror})"
    return tell_folder(str(folder), names, like)
