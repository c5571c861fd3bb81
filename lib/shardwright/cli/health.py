"""What `doctor` finds out about a dataset without reading its samples: versions, lock, leftovers, and the sizes of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from shardwright.cli.output import Finding, size
from shardwright.errors import CorruptError, FormatVersionError, MissingDependencyError, StorageError
from shardwright.format.layout import LATEST, LOCK, STAGING, version_number
from shardwright.format.versions import published_versions, read_index, read_latest, read_manifest
from shardwright.reader.verify_part import parts_of
from shardwright.storage import HdfsStorage, LocalStorage, Lock, Storage, WritableStorage, open_storage
from shardwright.storage.webhdfs import WebHdfs

_HOUR = 3600
_OLD_HOURS = 24
_SHOWN = 3
_LOW_SPACE = 10 * 2**30
_FULL = 0.9
"""The share of a quota from which on it is nearly used up."""
_NO_QUOTA = 2**62
"""What HDFS says where no quota is set is beyond that, or below 0."""


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
    if isinstance(storage, LocalStorage | HdfsStorage) and storage.names():
        yield from _lock(storage)
        yield from _staging(storage)
    if urlsplit(storage.url).scheme in ("hdfs", "webhdfs", "swebhdfs"):
        yield from _hdfs(storage.url)


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
    sizes = {file.name: file.bytes for file in storage.listing(version)}
    wrong = [file.name for file in expected if sizes.get(file.name) != file.bytes]
    if wrong:
        more = " …" if len(wrong) > _SHOWN else ""
        found = f"{len(wrong)} files missing or of another size: {', '.join(sorted(wrong)[:_SHOWN])}{more}"
        return Finding("problem", version, found, mend)
    samples = sum(split.samples for split in manifest.content.splits.values())
    total = size(sum(file.bytes for file in expected))
    return Finding("ok", version, f"format {manifest.format_version}, {samples:,} samples, {len(expected):,} files, {total}")


def _lock(storage: WritableStorage) -> Iterator[Finding]:
    holder = Lock(storage, LOCK).held()
    if holder:
        yield Finding("ok", LOCK, f"held by {holder}", "wait for it, before you publish")
    elif holder is not None:
        yield Finding("warning", LOCK, "stale: its owner is gone", "the next publish takes it over")


def _staging(storage: WritableStorage) -> Iterator[Finding]:
    for name in storage.names(STAGING):
        hours = storage.age(f"{STAGING}/{name}") / _HOUR
        found = f"{size(sum(storage.files(f'{STAGING}/{name}').values()))}, {hours:,.1f} hours old"
        if hours > _OLD_HOURS:
            yield Finding("warning", f"{STAGING}/{name}", found, "left by a killed run: the next publish deletes it")
        else:
            yield Finding(
                "ok", f"{STAGING}/{name}", found, "of a run that goes on, or was killed: the same command finishes it"
            )


def _hdfs(url: str) -> Iterator[Finding]:
    """The quotas that hold for a dataset on HDFS, set on its directory or one above it, and free space, by WebHDFS."""
    try:
        client = WebHdfs(url)
        client.call("GET", "GETHOMEDIRECTORY", "/")
    except (StorageError, MissingDependencyError) as error:
        yield Finding("warning", "WebHDFS", str(error), "`shardwright plan`, quotas and storage policies need it")
        return
    path = PurePosixPath(client.path)
    for directory in (path, *path.parents):
        if len(directory.parts) > 2 or directory == path:  # what lies above is large, and its sum slow
            yield from _quotas(client, str(directory))
    try:
        free = int(client.call("GET", "GETSTATUS", "/")["FsStatus"]["remaining"])
    except (StorageError, KeyError):
        return  # older Hadoop does not have the operation
    low = free < _LOW_SPACE
    yield Finding(
        "warning" if low else "ok", "space", f"{size(free)} free on HDFS, for all replicas", "free some" if low else ""
    )


def _quotas(client: WebHdfs, directory: str) -> Iterator[Finding]:
    try:
        usage = client.call("GET", "GETQUOTAUSAGE", directory)["QuotaUsage"]
    except (OSError, KeyError):
        return  # not there yet, or not to be seen by this user
    for what, used, quota, show in (
        ("names", usage["fileAndDirectoryCount"], usage["quota"], "{:,}".format),
        ("space, replicas counted", usage["spaceConsumed"], usage["spaceQuota"], size),
    ):
        if 0 <= quota < _NO_QUOTA:
            full = used > _FULL * quota
            advice = "the next publish may not fit: `shardwright expire`, or have the quota raised" if full else ""
            yield Finding("warning" if full else "ok", f"quota of {directory}", f"{show(used)} of {show(quota)} {what}", advice)
