"""Opening a dataset: three files are read, `_LATEST`, manifest and index, however many shards there are."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow.compute as pc

from shardwright.errors import DatasetNotFoundError
from shardwright.format.layout import INDEX
from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.catalog import read_catalog
from shardwright.reader.columns import check_names
from shardwright.reader.dataset import Dataset, Source
from shardwright.schema import suggest
from shardwright.storage import open_storage


def open_dataset(
    url: str | os.PathLike[str],
    *,
    split: str | None = None,
    version: str = "latest",
    shards: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
    where: pc.Expression | str | None = None,
) -> Dataset:
    """The samples of one split of the dataset at `url`: a path, file:// or any URL that fsspec knows.

    `split` may be left out where there is only one; `version` is "latest" or a name such as "v000003". `shards` opens some
    shards only, which is a smaller dataset with an order of its own; `columns` reads some fields only, and ``_key`` (uint8, 16
    bytes a sample) or ``_pad`` by name; `where` is short for `Dataset.where`. No part file is touched before a sample is
    read, but for `where`.

    Raises DatasetNotFoundError for a dataset, version, split or shard that does not exist, SchemaError for unknown columns,
    CorruptError when manifest or index are not what was published, FormatVersionError when they are from a newer shardwright,
    StorageError when the file system refuses, and what `Dataset.where` raises.
    """
    url = os.fspath(url)
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    place = f"{storage.url}/{name}"
    chosen = _split(manifest, split, place)
    index = read_index(storage, name, manifest)
    catalog = read_catalog(index, manifest, chosen, shards, where=f"{place}/{INDEX}")
    names = check_names(manifest.content.dataset_schema, columns, padded=manifest.content.plan.remainder == "pad")
    dataset = Dataset(Source(url=url, version=name, manifest=manifest, catalog=catalog, names=names))
    return dataset if where is None else dataset.where(where)


def _split(manifest: Manifest, split: str | None, where: str) -> str:
    known = sorted(manifest.content.splits)
    if split is None and len(known) == 1:
        return known[0]
    if split is None:
        raise DatasetNotFoundError(f"{where} has {len(known)} splits: say split=, one of {', '.join(known)}")
    if split not in known:
        raise DatasetNotFoundError(f"{where} has no split {split!r}: {suggest(split, known)}")
    return split
