"""Finding the files of an input: a file, a folder, a glob, or a list of them, on this machine."""

from __future__ import annotations

import difflib
import glob
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shardwright.errors import InputError, InputNotFoundError
from shardwright.sources.base import InputFile, Task
from shardwright.storage.base import local_path_of

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, a folder, a glob (`*`, `**`, `?`, `[]`) or file:// URL of one, or several of them."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WILDCARD = re.compile(r"[*?\[]")
_DOCUMENTATION = re.compile(r"(README|LICEN[CS]E|NOTICE|COPYING|CITATION)\b", re.IGNORECASE)
_FILE_BYTES = 64 * 2**10
"""What opening a file costs, as bytes that could be read meanwhile: 100,000 files of 1 kB are no single task."""
_SHOWN = 5
"""Names that a message lists before it only counts."""

_log = logging.getLogger(__name__)


def find_files(paths: Paths) -> tuple[InputFile, ...]:
    """The files that `paths` name, sorted by name, each once.

    Folders are searched through; what begins with '.' or '_' in them is skipped. A file's `name` is relative to the folder, to
    the parent of a file named itself, or to the longest prefix of a glob that has no wildcard.

    Raises InputNotFoundError for a path that does not exist, a glob that matches nothing and a folder without files;
    InputError for what can't be read, and for one file found under two names.
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
        raise InputError(f"expected {expected}, found only {_show([file.path for file in files])}")
    skipped = [file.name for file in files if not usable(file) and not is_documentation(file)]
    if skipped:
        _log.warning("expected %s: skipped %d of %d files: %s", expected, len(skipped), len(files), _show(skipped))
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


def read_whole(file: InputFile) -> bytes:
    """All bytes of a file. Raises InputError where it can't be read, or is no longer what was found."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
        try:
            _check_status(file, os.fstat(descriptor))
            pieces = []
            missing = file.bytes
            while missing and (piece := os.read(descriptor, missing)):
                pieces.append(piece)
                missing -= len(piece)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(file, error) from error
    if missing:
        raise _changed(file)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_unchanged(file: InputFile) -> None:
    """Raise InputError unless the file still has the size and the time of modification that it was found with."""
    try:
        status = os.stat(file.path)
    except OSError as error:
        raise _unreadable(file, error) from error
    _check_status(file, status)


@contextmanager
def watched(file: InputFile) -> Iterator[None]:
    """A context to open and read a file in. Raises InputError where it can't be read, or is not what it was found as."""
    check_unchanged(file)
    try:
        yield
    except OSError as error:
        raise _unreadable(file, error) from error
    check_unchanged(file)


def damaged(file: InputFile, expected: str, error: Exception) -> InputError:
    """What to raise for a file that can't be read as what is expected ("a Parquet file")."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{file.path}: expected {expected}, found one that can't be read ({told})")


def _check_status(file: InputFile, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns) != (file.bytes, file.modified_ns):
        raise _changed(file)


def _changed(file: InputFile) -> InputError:
    return InputError(f"{file.path}: was changed while it was read; run the job again when the input is complete")


def _unreadable(file: InputFile, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(
            f"{file.path}: can't be read ({error.strerror}): it was removed after the job listed its input; run the job again "
            "when the input is complete"
        )
    return InputError(f"{file.path}: can't be read ({error.strerror or error})")


def _task(files: Sequence[InputFile]) -> Task:
    return Task(files=tuple(files), start=0, stop=len(files), bytes=sum(file.bytes for file in files))


def _find(path: str) -> list[InputFile]:
    local = _local(path)
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


def _local(path: str) -> Path:
    if not path:
        raise InputError("expected a file, a folder or a glob to read, found an empty path")
    scheme = _SCHEME.match(path)
    if scheme and scheme[1].lower() != "file":
        raise InputError(
            f"expected a local path or file:// to read from, found {path!r}: raw data is read from local storage only so far"
        )
    local = local_path_of(path)
    assert local is not None  # no scheme, or file://
    return Path(os.path.abspath(local))  # without '..': one file has one path here


def _find_glob(pattern: Path) -> list[InputFile]:
    first = next(i for i, part in enumerate(pattern.parts) if _WILDCARD.search(part))
    root = Path(*pattern.parts[:first])
    if not root.is_dir():
        raise InputNotFoundError(f"the glob {pattern} matches nothing: no folder {root}; {_nearby(root)}")
    files: dict[str, InputFile] = {}
    for match in glob.iglob("/".join(pattern.parts[first:]), root_dir=root, recursive=True):
        name = match.rstrip("/")
        if any(_skipped(part) for part in name.split("/")):
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
        if _skipped(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {identity})
        else:
            yield _input_file(entry.path, prefix + entry.name, _stat(entry))


def _skipped(name: str) -> bool:
    return name.startswith((".", "_"))


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
    near = difflib.get_close_matches(like, names, n=1)
    hint = f"did you mean {folder / near[0]}? " if near else ""
    return f"{hint}{folder} holds {_show(names) if names else 'nothing'}"


def _show(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
