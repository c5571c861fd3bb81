"""What lies in a folder: a dataset of ours, of Petastorm, of WebDataset, of MosaicML, or plain Parquet."""

from __future__ import annotations

import json
from typing import Literal

from shardwright.errors import InputError
from shardwright.format import layout
from shardwright.format.unischema import read_common_metadata
from shardwright.sources.file_names import hidden, show_names
from shardwright.storage import open_storage

Kind = Literal["shardwright", "petastorm", "parquet", "webdataset", "mds"]
COMMON_METADATA = "_common_metadata"
MDS_INDEX = "index.json"
_PARQUET = (".parquet", ".parq", ".pq")
_TAR = (".tar", ".tar.gz", ".tgz")


def detect(url: str) -> Kind:
    """The kind of dataset at `url`, by the names there and what its metadata holds.

    Raises InputError, with what is there, for none that is known; UnsafeMetadataError for a hostile `_common_metadata`.
    """
    storage = open_storage(url)
    top = storage.names()
    if layout.LATEST in top:
        return "shardwright"
    names = [found.name for found in storage.listing()]
    if COMMON_METADATA in names and read_common_metadata(storage.read(COMMON_METADATA)).unischema is not None:
        return "petastorm"
    if any(name.rpartition("/")[2] == MDS_INDEX for name in names) and _is_mds(storage.read(_first_index(names))):
        return "mds"
    data = [name for name in names if not any(map(hidden, name.split("/")))]
    if any(name.endswith(_PARQUET) for name in data):
        return "parquet"
    if any(name.endswith(_TAR) for name in data):
        return "webdataset"
    shown = show_names(sorted(names)) if names else "nothing"
    raise InputError(
        f"{url}: expected a dataset of Petastorm, Parquet files, WebDataset tars or MosaicML's MDS, found {shown}; other "
        "inputs are read by a configuration of jobs/prepare.py"
    )


def _first_index(names: list[str]) -> str:
    return min((name for name in names if name.rpartition("/")[2] == MDS_INDEX), key=lambda name: (name.count("/"), name))


def _is_mds(data: bytes) -> bool:
    try:
        found = json.loads(data)
    except ValueError:
        return False
    return isinstance(found, dict) and "shards" in found
