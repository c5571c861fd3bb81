"""Opening a dataset: three files are read, `_LATEST`, manifest and index, however many shards there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from shardwright.errors import CorruptError, DatasetNotFoundError, ShardwrightError, StorageError
from shardwright.format.index import decode_index
from shardwright.format.layout import INDEX, LATEST, MANIFEST, version_number
from shardwright.format.manifest import Manifest
from shardwright.format.versions import published_versions
from shardwright.reader.catalog import read_catalog
from shardwright.reader.columns import check_names
from shardwright.reader.dataset import Dataset, Source
from shardwright.schema import suggest
from shardwright.storage import Storage, open_storage


def open_dataset(
    url: str,
    *,
    split: str | None = None,
    version: str = "latest",
    shards: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
) -> Dataset:
    """The samples of one split of the dataset at `url`: a path, file:// or any URL that fsspec knows.

    `split` may be left out where there is only one; `version` is "latest" or a name such as "v000003". `shards` opens some
    shards only, which is a smaller dataset with an order of its own; `columns` reads some fields only, and ``_key`` (uint8, 16
    bytes a sample) or ``_pad`` by name. No part file is touched before a sample is read.

    Raises DatasetNotFoundError for a dataset, version, split or shard that does not exist, SchemaError for unknown columns,
    CorruptError when manifest or index are not what was published, FormatVersionError when they are from a newer shardwright,
    StorageError when the file system refuses.
    """
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    where = f"{storage.url}/{name}"
    chosen = _split(manifest, split, where)
    index = read_index(storage, name, manifest)
    catalog = read_catalog(index, manifest, chosen, shards, where=f"{where}/{INDEX}")
    names = check_names(manifest.content.dataset_schema, columns, padded=manifest.content.plan.remainder == "pad")
    return Dataset(Source(url=url, version=name, manifest=manifest, catalog=catalog, names=names))


def read_manifest(storage: Storage, version: str = "latest") -> tuple[str, Manifest]:
    """The name and manifest of a version. Raises as `open_dataset` does."""
    content_id = None
    if version == "latest":
        version, content_id = _latest(storage)
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


def _latest(storage: Storage) -> tuple[str, str]:
    with _clear_errors(storage, LATEST):
        try:
            latest = json.loads(storage.read(LATEST))
            return str(latest["version"]), str(latest["content_id"])
        except FileNotFoundError as error:
            known = _known(storage)
            raise DatasetNotFoundError(f"no dataset at {storage.url}: it has no {LATEST}; {known}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(
                f"{storage.url}/{LATEST}: expected JSON with version and content_id, {error!r}; restore it, or say version="
            ) from error


def _known(storage: Storage) -> str:
    versions = published_versions(storage)
    return f"versions there: {', '.join(versions)}" if versions else "there is no version"


def _split(manifest: Manifest, split: str | None, where: str) -> str:
    known = sorted(manifest.content.splits)
    if split is None and len(known) == 1:
        return known[0]
    if split is None:
        raise DatasetNotFoundError(f"{where} has {len(known)} splits: say split=, one of {', '.join(known)}")
    if split not in known:
        raise DatasetNotFoundError(f"{where} has no split {split!r}: {suggest(split, known)}")
    return split


@contextmanager
def _clear_errors(storage: Storage, name: str) -> Iterator[None]:
    try:
        yield
    except ShardwrightError:
        raise
    except OSError as error:
        raise StorageError(f"can't read {storage.url}/{name}: {error}") from error
