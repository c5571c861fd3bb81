"""publish: parts, index and manifest become a version, all at once or not at all.

A publish holds the dataset's lock. It works in `_staging/<attempt>/`, where every finished pass leaves its result, so that a
killed run goes on from the last of them; one directory rename makes the version exist, then `_LATEST` names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, NoReturn, Self

from pydantic import BaseModel, ConfigDict, model_validator

from shardwright.errors import DatasetConflictError, StorageError
from shardwright.format.canonical import canonical_json
from shardwright.format.layout import EXPIRED, LATEST, LOCK, MANIFEST, STAGING, version_name, version_number
from shardwright.format.manifest import Manifest
from shardwright.format.versions import encode_latest, published_versions, read_latest, read_manifest
from shardwright.storage import HdfsOptions, Lock, Storage, WritableStorage

PIPELINE_VERSION = 3
"""Raised when the same input and configuration would give other bytes than before: also when a default changes, since the
fingerprint of a configuration leaves defaults out.
"""
_KEEP_STAGING_SECONDS = 24 * 3600
_VERSION = "version"
_AT_ONCE = 16
"""Files that are moved at the same time: a rename on HDFS is a request of milliseconds, and there are tens of thousands."""


class PublishOptions(HdfsOptions):
    """Where the dataset lies, and how HDFS keeps it."""

    path: str | None = None
    """A local directory, file:// or hdfs:// URL; `build/datasets/<name>` by default, `--output` overrides it."""

    @model_validator(mode="after")
    def _only_on_hdfs(self) -> Self:
        asked = self.asked()
        if asked and not (self.path or "").startswith("hdfs://"):
            raise ValueError(f"{', '.join(asked)}: expected an hdfs:// URL as path, found {self.path!r}; leave them out")
        return self


class Published(BaseModel):
    """A version that stands, and whether this publish made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    version: str
    manifest: Manifest
    new: bool
    note: str


class Publication:
    """One publish of the dataset in `storage`; holds its lock while in its context.

    Raises LockedError where somebody else holds it, and does so for `wait_seconds`. `attempt` names the working directory: the
    same for the same work, so that a run finds what a killed one left.
    """

    def __init__(self, storage: WritableStorage, attempt: str, *, wait_seconds: float = 0) -> None:
        self.storage = storage
        self._lock = Lock(storage, LOCK, wait_seconds=wait_seconds)
        self._name = f"{STAGING}/{attempt}"
        self.attempt = storage.child(self._name)

    def __enter__(self) -> Self:
        self._lock.__enter__()
        self._sweep()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, trace)

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """The JSON value that `work` gave, now or in a run that was killed after this step. Raises LockedError."""
        name = f"{step}.json"
        if self.attempt.exists(name):
            return json.loads(self.attempt.read(name))
        self._lock.check()  # where the directory was removed it is not to come back, and for another publish nothing is done
        result = work()
        try:
            self.attempt.write(name, canonical_json(result))
        except FileNotFoundError:
            self._start_anew([name])
        return result

    def adopt(self, published: Published, note: str) -> Published:
        """Leave it at a version that stands: see that `_LATEST` names it, and clear up."""
        if read_latest(self.storage) != published.version:
            self.storage.write(LATEST, encode_latest(published.manifest, published.version))
        self._clear()
        return published.model_copy(update={"note": note})

    def publish(self, files: dict[str, str | bytes], manifest: Manifest, note: str) -> Published:
        """Make a version of `files`: name in the version -> its name in the attempt's directory, or its bytes.

        Raises StorageError where a staged file is gone, and LockedError where the lock is; nothing is published then.
        """
        self._lock.check()
        self._gather(files)
        try:
            self.attempt.write(f"{_VERSION}/{MANIFEST}", manifest.to_json())
            self._check_complete({*files, MANIFEST})
            version = self._name_version()
        except FileNotFoundError:
            self._start_anew([MANIFEST])
        published = Published(url=self.storage.url, version=version, manifest=manifest, new=True, note=note)
        self.storage.write(LATEST, encode_latest(manifest, version))
        self._clear()
        return published

    def _name_version(self) -> str:
        """Give the finished directory the next version's name, which makes it exist."""
        taken = [number for name in self.storage.names() if (number := version_number(name)) is not None]
        version = version_name(max(taken, default=0) + 1)
        self._lock.check()
        try:
            self.storage.rename(f"{self._name}/{_VERSION}", version)
        except FileExistsError as error:
            self._lock.check()
            raise StorageError(
                f"{self.storage.url}/{version} was made by something else just before this publish; run the same command again"
            ) from error
        return version

    def _gather(self, files: Mapping[str, str | bytes]) -> None:
        """Bring all files of the version together; a run that was killed here had moved some already."""
        there = self.attempt.files(_VERSION)
        directories = sorted({str(PurePosixPath(_VERSION, name).parent) for name in files})

        gone: list[str] = []

        def put(file: tuple[str, str | bytes]) -> None:
            name, source = file
            try:
                if isinstance(source, bytes):
                    self.attempt.write(f"{_VERSION}/{name}", source)
                elif name not in there:
                    self.attempt.rename(source, f"{_VERSION}/{name}")
            except FileNotFoundError:
                gone.append(name)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self.attempt.make_directory, directories))
            list(pool.map(put, files.items()))
        if gone:
            self._start_anew(gone)

    def _check_complete(self, expected: set[str]) -> None:
        """Nothing else lies in the version, which an earlier try may have left, and nothing is missing."""
        found = self.attempt.files(_VERSION)
        for name in found.keys() - expected:
            self.attempt.delete(f"{_VERSION}/{name}")
        if missing := expected - found.keys():
            self._start_anew(missing)

    def _start_anew(self, gone: Iterable[str]) -> NoReturn:
        """Files that finished passes left are gone: their results are worth nothing."""
        self._lock.check()  # else it is another run that moved them
        self._clear()
        raise StorageError(
            f"{self.attempt.url}: expected the files that this job wrote there, found some gone, like {min(gone)}: were they "
            "removed while it ran? Nothing was published; run the same command again"
        )

    def _clear(self) -> None:
        self.storage.delete(self._name)
        if not self.storage.names(STAGING):
            self.storage.delete(STAGING)

    def _sweep(self) -> None:
        """Remove the working directories of attempts that nobody came back to, and expired versions, as `expire` would have."""
        for name in self.storage.names(STAGING):
            path = f"{STAGING}/{name}"
            if path != self._name and self.storage.age(path) > _KEEP_STAGING_SECONDS:
                remove = self.storage.discard if name.startswith(EXPIRED) else self.storage.delete
                remove(path)


def newest_version(storage: Storage) -> Published | None:
    """The newest version of the dataset in `storage`, or None."""
    versions = published_versions(storage)
    if not versions:
        return None
    version, manifest = read_manifest(storage, versions[-1])
    return Published(url=storage.url, version=version, manifest=manifest, new=False, note="")


def check_configuration(newest: Published, configuration_sha256: str, *, new_version: bool) -> None:
    """Raise DatasetConflictError when the newest version was prepared with another configuration, unless `new_version`."""
    found = newest.manifest.lineage.configuration_sha256
    if found != configuration_sha256 and not new_version:
        raise DatasetConflictError(
            f"{newest.url} was prepared with another configuration ({newest.version} has {str(found)[:12]}, this run "
            f"{configuration_sha256[:12]}); add --new-version to publish a new version there, or choose another --output"
        )
