"""Opening a dataset: three files are read, `_LATEST`, manifest and index, however many shards there are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from shardwright.errors import ConfigError, DatasetNotFoundError
from shardwright.format.layout import INDEX
from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.catalog import read_catalog
from shardwright.reader.columns import check_names
from shardwright.reader.dataset import Dataset, Source
from shardwright.schema import suggest
from shardwright.storage import open_storage
from shardwright.storage.base import local_path_of
from shardwright.storage.part_cache import CachePlace


def open_dataset(
    url: str | os.PathLike[str],
    *,
    split: str | None = None,
    version: str = "latest",
    shards: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    where: pc.Expression | str | None = None,
    origin: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_limit_bytes: int | None = None,
) -> Dataset:
    """The samples of one split of the dataset at `url`: a path, file:// or any URL that fsspec knows.

    `split` may be left out where there is only one; `version` is "latest" or a name such as "v000003". `shards` opens some
    shards only, which is a smaller dataset with an order of its own; `columns` reads some fields only, and ``_key`` (uint8, 16
    bytes a sample) or ``_pad`` by name; `where` is short for `Dataset.where`. No part file is touched before a sample is
    read, but for `where`.

    `origin` is where the same version lies whole: parts that are missing at `url`, a local path, are read from there. `cache`
    is a directory on a disk of this node: remote parts that were read from are fetched whole into it, for all processes that
    name it, as long as it holds no more than `cache_limit_bytes` (None: all but a tenth of its disk).

    Raises DatasetNotFoundError for a dataset, version, split or shard that does not exist, SchemaError for unknown columns,
    CorruptError when manifest or index are not what was published, FormatVersionError when they are from a newer shardwright,
    ConfigError for `shards` that are no different numbers, an `origin` with other content, or a `cache` where nothing is
    remote, StorageError when the file system refuses, and what `Dataset.where` raises.
    """
    url = os.fspath(url)
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    place = f"{storage.url}/{name}"
    chosen = _split(manifest, split, place)
    index = read_index(storage, name, manifest)
    catalog = read_catalog(index, manifest, chosen, shards, where=f"{place}/{INDEX}")
    names = check_names(manifest.content.dataset_schema, columns, padded=manifest.content.plan.remainder == "pad")
    dataset = Dataset(
        Source(
            url=url, version=name, manifest=manifest, catalog=catalog, names=names,
            origin=None if origin is None else _origin(url, os.fspath(origin), name, manifest.content_id),
            cache=_cache(url if origin is None else os.fspath(origin), cache, cache_limit_bytes),
        )
    )  # fmt: skip
    return dataset if where is None else dataset.where(where)


def _origin(url: str, origin: str, version: str, content_id: str) -> str:
    """`origin`, if it holds the same version with the same content."""
    if local_path_of(url) is None:
        raise ConfigError([f"origin: it has what is missing at a local path, found {url}: open {origin} by itself"])
    _, manifest = read_manifest(open_storage(origin), version)
    if manifest.content_id != content_id:
        problem = (
            f"origin: expected {version} with content_id {content_id} as at {url}, found {manifest.content_id} at {origin}; "
            "name the origin that the shards here came from, or copy them again"
        )
        raise ConfigError([problem])
    return origin


def _cache(remote: str, directory: str | os.PathLike[str] | None, limit_bytes: int | None) -> CachePlace | None:
    if directory is None:
        if limit_bytes is not None:
            raise ConfigError(["cache_limit_bytes: it goes with cache=, the directory to keep parts in"])
        return None
    if local_path_of(remote) is not None:
        raise ConfigError([f"cache: {remote} is a local path, whose files are mapped as they lie there; leave cache= out"])
    place = CachePlace(directory=str(Path(directory).expanduser().absolute()), limit_bytes=limit_bytes)
    place.prepare()
    return place


def _split(manifest: Manifest, split: str | None, where: str) -> str:
    known = sorted(manifest.content.splits)
    if split is None and len(known) == 1:
        return known[0]
    if split is None:
        raise DatasetNotFoundError(f"{where} has {len(known)} splits: say split=, one of {', '.join(known)}")
    if split not in known:
        raise DatasetNotFoundError(f"{where} has no split {split!r}: {suggest(split, known)}")
    return split
