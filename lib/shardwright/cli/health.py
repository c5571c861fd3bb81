"""What `doctor` finds out about a dataset without reading its samples: versions, lock, leftovers, and the sizes of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shardwright.cli.output import Finding, size
from shardwright.errors import CorruptError, FormatVersionError, StorageError
from shardwright.format.layout import LATEST, LOCK, STAGING, version_number
from shardwright.format.versions import published_versions, read_index, read_latest, read_manifest
from shardwright.reader.verify_part import parts_of
from shardwright.storage import LocalStorage, Lock, Storage, open_storage

_HOUR = 3600
_OLD_HOURS = 24
_SHOWN = 3


def health(url: str) -> Iterator[Finding]:
    """Everything that can be told of the dataset at `url` without reading parts. Raises StorageError."""
    storage = open_storage(url)
    versions = published_versions(storage)
    if not versions:
        yield Finding("problem", storage.url, "no dataset: there is no version", "look at the URL, or prepare one there")
    else:
        yield Finding("ok", storage.url, f"{len(versions)} versions, the newest {versions[-1]}")
        yield _latest(storage, versions)
    for name in storage.names():
        if version_number(name) is not None and name not in versions:
            yield Finding("warning", name, "no manifest: this version does not exist", "delete the directory")
    for version in versions:
        yield _version(storage, version)
    if isinstance(storage, LocalStorage) and storage.local_path().is_dir():
        yield from _lock(storage)
        yield from _staging(storage)


def _latest(storage: Storage, versions: list[str]) -> Finding:
    mend = f"run the job that made {versions[-1]} again: it writes {LATEST}, and nothing else"
    try:
        latest = read_latest(storage)
    except (CorruptError, StorageError) as error:
        return Finding("problem", LATEST, str(error), mend)
    if latest is None or latest not in versions:
        return Finding("problem", LATEST, f"names {latest}, which does not exist" if latest else "missing", mend)
    if latest != versions[-1]:
        return Finding("warning", LATEST, f"names {latest}, {versions[-1]} is newer", f"if that is not meant: {mend}")
    return Finding("ok", LATEST, latest)


def _version(storage: Storage, version: str) -> Finding:
    """Manifest, index, and whether every file is there in its size."""
    mend = f"shardwright verify {storage.url} --version {version} lists all that is wrong"
    try:
        _, manifest = read_manifest(storage, version)
        parts = parts_of(read_index(storage, version, manifest))
    except FormatVersionError as error:
        return Finding("problem", version, str(error), "upgrade shardwright")
    except (CorruptError, StorageError) as error:
        return Finding("problem", version, str(error), mend)
    expected = [file for part in parts for file in part.files]
    expected += [split.common_metadata for split in manifest.content.splits.values()]
    wrong = [file.name for file in expected if _size(storage, f"{version}/{file.name}") != file.bytes]
    if wrong:
        more = " …" if len(wrong) > _SHOWN else ""
        found = f"{len(wrong)} files missing or of another size: {', '.join(sorted(wrong)[:_SHOWN])}{more}"
        return Finding("problem", version, found, mend)
    samples = sum(split.samples for split in manifest.content.splits.values())
    total = size(sum(file.bytes for file in expected))
    return Finding("ok", version, f"format {manifest.format_version}, {samples:,} samples, {len(expected):,} files, {total}")


def _size(storage: Storage, name: str) -> int | None:
    try:
        return storage.size(name)
    except FileNotFoundError:
        return None


def _lock(storage: LocalStorage) -> Iterator[Finding]:
    holder = Lock(storage, LOCK).held()
    if holder:
        yield Finding("ok", LOCK, f"held by {holder}", "wait for it, before you publish")
    elif holder is not None:
        yield Finding("warning", LOCK, "stale: its owner is gone", "the next publish takes it over")


def _staging(storage: LocalStorage) -> Iterator[Finding]:
    for name in storage.names(STAGING):
        path = storage.local_path(f"{STAGING}/{name}")
        hours = storage.age(f"{STAGING}/{name}") / _HOUR
        found = f"{size(_bytes(path))}, {hours:,.1f} hours old"
        if hours > _OLD_HOURS:
            yield Finding("warning", f"{STAGING}/{name}", found, "left by a killed run: the next publish deletes it")
        else:
            yield Finding(
                "ok", f"{STAGING}/{name}", found, "of a run that goes on, or was killed: the same command finishes it"
            )


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
