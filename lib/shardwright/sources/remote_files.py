"""Finding input files on another machine: HDFS, and whatever else a storage reads; listed in bulk, never asked one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

from shardwright.errors import InputError, InputNotFoundError, ShardwrightError
from shardwright.sources.base import InputFile
from shardwright.sources.file_names import hidden, tell_folder
from shardwright.sources.inputs import locate, split_url
from shardwright.storage import Listed, Storage

_WILDCARD = re.compile(r"[*?\[]")


def find_remote(url: str) -> list[InputFile]:
    """The files at a URL: that one, all below that folder, or what matches its wildcards.

    Raises InputNotFoundError where there is none, InputError or StorageError for what can't be listed.
    """
    storage, path = locate(url)
    place = _Place(storage, split_url(url)[0])
    with _clear_errors(url):
        found = place.listing(path)
        if found is None and _WILDCARD.search(path):
            return _find_glob(place, path)
        if found is None:
            raise InputNotFoundError(f"no file or folder {place.url(path)}; {place.nearby(path)}")
        if [one.name for one in found] == [""]:
            return [place.file(path, path.rpartition("/")[2], found[0])]
        files = [place.file(f"{path}/{one.name}", one.name, one) for one in found if _is_data(one.name)]
        if not files:
            raise InputNotFoundError(
                f"no files to read in the folder {place.url(path)} (names that begin with '.' or '_' are skipped); "
                f"{place.tell(path)}"
            )
        return files


@dataclass(frozen=True)
class _Place:
    """A storage as a whole, and what it is called."""

    storage: Storage
    server: str

    def url(self, path: str) -> str:
        return f"{self.server}/{path.lstrip('/')}"

    def file(self, path: str, name: str, found: Listed) -> InputFile:
        return InputFile(path=self.url(path), name=name, bytes=found.bytes, modified_ns=found.modified_ns)

    def listing(self, path: str) -> list[Listed] | None:
        """The files below a folder, or itself; None where it does not exist."""
        try:
            return list(self.storage.listing(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def tell(self, folder: str, like: str = "") -> str:
        return tell_folder(self.url(folder), self.storage.names(folder), like)

    def nearby(self, path: str) -> str:
        """What there is instead of `path`: the nearest folder that holds anything, and the likeliest name in it."""
        folder, _, missing = path.rpartition("/")
        while folder and not self.storage.names(folder):
            folder, _, missing = folder.rpartition("/")
        return self.tell(folder, missing)


def _find_glob(place: _Place, pattern: str) -> list[InputFile]:
    """What matches: folders are looked through name by name as far as they have to be, and then listed in bulk."""
    parts = pattern.split("/")
    wild = [number for number, part in enumerate(parts) if _WILDCARD.search(part)]
    deep = next((number for number in wild if parts[number] == "**"), wild[-1])
    root = "/".join(parts[: wild[0]])
    files = []
    for folder in _folders(place, root, parts[wild[0] : deep]):
        for found in place.listing(folder) or []:
            path = f"{folder}/{found.name}".strip("/")
            name = path.removeprefix(root).lstrip("/")
            if found.name and _is_data(name) and _matches(found.name.split("/"), parts[deep:]):
                files.append(place.file(path, name, found))
    if not files:
        known = place.storage.names(root)
        missing = "" if known else f": no folder {place.url(root)}"
        raise InputNotFoundError(
            f"the glob {place.url(pattern)} matches nothing{missing}; {place.tell(root) if known else place.nearby(root)}"
        )
    return files


def _folders(place: _Place, root: str, parts: Sequence[str]) -> Iterator[str]:
    """The folders below `root` whose names match `parts`, one after the other; some may not exist."""
    if not parts:
        yield root
        return
    names = place.storage.names(root) if _WILDCARD.search(parts[0]) else [parts[0]]
    for name in names:
        if fnmatchcase(name, parts[0]) and not hidden(name):
            yield from _folders(place, f"{root}/{name}".lstrip("/"), parts[1:])


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a file, or a folder that it lies in, is called as `parts` say; `**` are any folders, or none."""
    if not parts:
        return True
    if parts[0] == "**":
        return any(_matches(names[start:], parts[1:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:])


def _is_data(name: str) -> bool:
    return not any(hidden(part) for part in name.split("/"))


@contextmanager
def _clear_errors(url: str) -> Iterator[None]:
    try:
        yield
    except ShardwrightError:
        raise
    except OSError as error:
        raise InputError(f"{url}: can't be listed ({error.strerror or error})") from error
