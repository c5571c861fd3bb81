"""What a file ``_common_metadata`` says of a Petastorm dataset; `format.petastorm` is the half that writes it.

It is a Parquet file without rows. Source of the two keys: petastorm 0.13.1, ``etl/dataset_metadata.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import InputError, UnsafeMetadataError
from shardwright.format.pickle_nodes import show

UNISCHEMA_KEY = "dataset-toolkit.unischema.v1"
ROW_GROUPS_KEY = "dataset-toolkit.num_row_groups_per_file.v1"
_MAX_BYTES = 256 * 2**20
_MAX_ROW_GROUPS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class CommonMetadata:
    """The two keys; None where the file does not have one.

    `unischema` is a pickle, for `parse_unischema` and nobody else. `row_groups` maps each data file, as a '/'-separated path
    below the folder that `_common_metadata` lies in, to its number of row groups; whether the files exist nobody checked.
    `columns` are those of the data files, without hive partitions.
    """

    unischema: bytes | None
    row_groups: Mapping[str, int] | None
    columns: pa.Schema


def read_common_metadata(data: bytes, where: str = "_common_metadata") -> CommonMetadata:
    """The keys in the bytes `data` of a file ``_common_metadata``, which messages call `where`.

    Raises InputError where the file or its JSON is damaged, UnsafeMetadataError for a path that leads out of the dataset.
    """
    if len(data) > _MAX_BYTES:
        raise InputError(f"{where}: expected at most {_MAX_BYTES} bytes, found {len(data)}")
    try:
        footer = pq.read_metadata(pa.BufferReader(data))
        columns = footer.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{where}: expected a Parquet file, found a damaged one ({error}); restore it, or remove it to read the dataset "
            "as plain Parquet"
        ) from error
    keys = footer.metadata or {}
    counts = keys.get(ROW_GROUPS_KEY.encode())
    return CommonMetadata(
        unischema=keys.get(UNISCHEMA_KEY.encode()),
        row_groups=None if counts is None else _row_groups(counts, f"{where}, key {ROW_GROUPS_KEY}"),
        columns=columns.remove_metadata(),
    )


def _row_groups(text: bytes, where: str) -> dict[str, int]:
    expected = "expected a JSON object that maps relative paths to numbers of row groups"
    try:
        counts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {expected}, found no JSON") from error
    if type(counts) is not dict:
        raise InputError(f"{where}: {expected}, found {type(counts).__name__}")
    for path, count in counts.items():
        if type(count) is not int or not 0 <= count <= _MAX_ROW_GROUPS:
            raise InputError(f"{where}: {expected}, found something else for {show(path)}")
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or str(parts) != path or path == "." or "\0" in path:
            raise UnsafeMetadataError(
                f"{where}: expected plain paths below the dataset, found {show(path)}; have the metadata written anew by "
                "`petastorm-generate-metadata.py`"
            )
    return counts
