"""The versions of a dataset: `_LATEST`, and what was published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from shardwright.errors import CorruptError, DatasetNotFoundError, ShardwrightError, StorageError
from shardwright.format.canonical import canonical_json
from shardwright.format.index import decode_index
from shardwright.format.layout import LATEST, MANIFEST, version_number
from shardwright.format.manifest import Manifest
from shardwright.storage import Storage


def published_versions(storage: Storage) -> list[str]:
    """The names of all versions with a manifest, oldest first. One without a manifest does not exist."""
    names = sorted((number, name) for name in storage.names() if (number := version_number(name)) is not None)
    return [name for _, name in names if MANIFEST in storage.names(name)]


def encode_latest(manifest: Manifest, version: str) -> bytes:
    """The bytes of `_LATEST`."""
    return canonical_json({"version": version, "content_id": manifest.content_id}) + b"\n"


def read_latest(storage: Storage) -> str | None:
    """The version that `_LATEST` names, or None where there is none. Raises CorruptError for anything else in it."""
    found = _latest(storage)
    return found and found[0]


def read_manifest(storage: Storage, version: str = "latest") -> tuple[str, Manifest]:
    """The name and the checked manifest of a version.

    Raises DatasetNotFoundError for one that does not exist, CorruptError for a `_LATEST` or manifest that is not what was
    published, FormatVersionError for one from a newer shardwright, StorageError when the file system refuses.
    """
    content_id = None
    if version == "latest":
        latest = _latest(storage)
        if latest is None:
            raise DatasetNotFoundError(
                f"no dataset at {storage.url}: expected the directory that holds {LATEST} and v000001, …; it has no {LATEST}, "
                f"{_known(storage)}"
            )
        version, content_id = latest
    name = f"{version}/{MANIFEST}"
    if version_number(version) is None:
        raise DatasetNotFoundError(f"no version {version!r} in {storage.url}: {_known(storage)}")
    with _clear_errors(storage, name):
        try:
            data = storage.read(name)
        except FileNotFoundError as error:
            raise DatasetNotFoundError(f"no version {version!r} in {storage.url}: {_known(storage)}") from error
    manifest = Manifest.parse(data, where=f"{storage.url}/{name}")
    if content_id not in (None, manifest.content_id):
        raise CorruptError(
            f"{storage.url}/{LATEST} names {version} with content_id {content_id}, its manifest says {manifest.content_id}; "
            f"restore {LATEST}, or say version={version!r}"
        )
    return version, manifest


def read_index(storage: Storage, version: str, manifest: Manifest) -> pa.Table:
    """The index of a version, checked against its manifest. Raises CorruptError when it is missing or was changed."""
    expected = manifest.content.index
    name = f"{version}/{expected.name}"
    where = f"{storage.url}/{name}"
    with _clear_errors(storage, name):
        try:
            data = storage.read(name)
        except FileNotFoundError as error:
            raise CorruptError(f"{where} is missing; copy it there again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected.sha256:
        raise CorruptError(
            f"{where}: expected {expected.bytes} bytes with sha256 {expected.sha256}, found {len(data)} bytes with {found}; "
            "copy the file again"
        )
    return decode_index(data, where=where)


def _latest(storage: Storage) -> tuple[str, str] | None:
    """The version that `_LATEST` names and its content_id, or None where there is no `_LATEST`."""
    with _clear_errors(storage, LATEST):
        try:
            data = storage.read(LATEST)
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        latest = json.loads(data)
        version, content_id = latest["version"], latest["content_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{storage.url}/{LATEST}: expected JSON with version and content_id, found {data[:80]!r}; restore it, "
            "or say version="
        ) from error
    if not isinstance(version, str) or version_number(version) is None:
        raise CorruptError(f"{storage.url}/{LATEST}: {version!r} is no version's name; restore it, or say version=")
    return version, str(content_id)


def _known(storage: Storage) -> str:
    versions = published_versions(storage)
    return f"versions there: {', '.join(versions)}" if versions else "there is no version"


@contextmanager
def _clear_errors(storage: Storage, name: str) -> Iterator[None]:
    try:
        yield
    except (ShardwrightError, FileNotFoundError):
        raise
    except OSError as error:
        raise StorageError(f"can't read {storage.url}/{name}: {error}") from error
