"""The versions of a dataset: `_LATEST`, and what was published."""

from __future__ import annotations

import json

from shardwright.errors import CorruptError
from shardwright.format.canonical import canonical_json
from shardwright.format.layout import LATEST, MANIFEST, version_number
from shardwright.format.manifest import Manifest
from shardwright.storage import Storage


def published_versions(storage: Storage) -> list[str]:
    """The names of all versions with a manifest, oldest first. One without a manifest does not exist."""
    names = sorted((number, name) for name in storage.names() if (number := version_number(name)) is not None)
    return [name for _, name in names if MANIFEST in storage.names(name)]


def read_manifest(storage: Storage, version: str) -> Manifest:
    """The checked manifest of a version. Raises FileNotFoundError, CorruptError, FormatVersionError."""
    name = f"{version}/{MANIFEST}"
    return Manifest.parse(storage.read(name), where=f"{storage.url}/{name}")


def encode_latest(manifest: Manifest, version: str) -> bytes:
    """The bytes of `_LATEST`."""
    return canonical_json({"version": version, "content_id": manifest.content_id}) + b"\n"


def read_latest(storage: Storage) -> str | None:
    """The version that `_LATEST` names, or None where there is none. Raises CorruptError for anything else in it."""
    try:
        data = storage.read(LATEST)
    except FileNotFoundError:
        return None
    try:
        version = json.loads(data)["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{storage.url}/{LATEST}: expected {{'version': 'v000001', …}}, found {data[:80]!r}") from error
    if not isinstance(version, str) or version_number(version) is None:
        raise CorruptError(f"{storage.url}/{LATEST}: {version!r} is no version's name")
    return version
