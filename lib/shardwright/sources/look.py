"""What lies at a place, told from names and a few bytes: a dataset of another system, and of which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from shardwright.errors import InputError
from shardwright.format.common_metadata import read_common_metadata
from shardwright.format.layout import COMMON_METADATA, LATEST
from shardwright.sources.base import InputFile
from shardwright.sources.file_names import show_names
from shardwright.sources.files import find_files
from shardwright.sources.inputs import open_input, read_beside, read_input
from shardwright.storage import open_storage

Kind = Literal["shardwright", "petastorm", "parquet", "webdataset", "mds"]
"""Of which system a dataset is; but for the first, also the `read.format` that reads it."""
MDS_INDEX = "index.json"
_TARS = (".tar", ".tar.gz", ".tgz")
_PARQUET = b"PAR1"
_KNOWN = (
    f"a folder with {COMMON_METADATA} (Petastorm), Parquet files, *.tar files (WebDataset), {MDS_INDEX} of version 2 (MDS) or "
    f"{LATEST} (shardwright)"
)


def find_kind(url: str) -> Kind:
    """What the dataset at `url`, a folder, file or glob, is of.

    Raises InputError for what is none of these, InputNotFoundError where there is nothing.
    """
    if LATEST in open_storage(url).names():
        return "shardwright"
    files = find_files(url)
    if any(file.name.endswith(_TARS) for file in files):
        return "webdataset"
    indexes = [file for file in files if file.name.rpartition("/")[2] == MDS_INDEX]
    if indexes and mds_shards(read_input(indexes[0])) is not None:
        return "mds"
    for file in files[:_LOOKED_AT]:
        if _is_parquet(file):
            metadata = read_beside(file, COMMON_METADATA)
            return "petastorm" if metadata and _is_petastorm(metadata[1]) else "parquet"
    raise InputError(f"{url}: expected {_KNOWN}; found {show_names([file.name for file in files])}; say --format")


_LOOKED_AT = 20
"""Files whose first bytes are looked at: a README may be the first."""


def mds_shards(index: bytes) -> Sequence[dict[str, object]] | None:
    """The shards that the index.json of an MDS directory, version 2, lists; None for any other file of that name."""
    try:
        found = json.loads(index)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("version") != 2 or not isinstance(found.get("shards"), list):
        return None
    shards: list[dict[str, object]] = [shard for shard in found["shards"] if isinstance(shard, dict)]
    return shards if len(shards) == len(found["shards"]) else None


def _is_petastorm(metadata: bytes) -> bool:
    """Spark and others write files of that name too, without a Unischema."""
    try:
        found = read_common_metadata(metadata)
    except (InputError, ValueError):  # it says so itself when it is read
        return True
    return found.unischema is not None or found.row_groups is not None


def _is_parquet(file: InputFile) -> bool:
    if file.bytes < 2 * len(_PARQUET):
        return False
    with open_input(file) as stream:
        return stream.read(len(_PARQUET)) == _PARQUET
