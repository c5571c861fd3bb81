"""`materialize_dataset`: what makes a folder of Parquet that Spark wrote a dataset of Petastorm's.

Semantics: petastorm 0.13.1, ``etl/dataset_metadata.py``. The metadata is what stock Petastorm reads; it is written by opcodes,
not by pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shardwright.format.layout import COMMON_METADATA
from shardwright.format.petastorm import write_common_metadata
from shardwright.petastorm.errors import PetastormMetadataError, PetastormMetadataGenerationError
from shardwright.petastorm.files import Files, open_files
from shardwright.petastorm.reading import stored_schema
from shardwright.petastorm.store import Store, data_files, open_store
from shardwright.petastorm.stored import from_stored, to_stored
from shardwright.petastorm.unischema import Unischema

__all__ = [
    "PetastormMetadataError",
    "PetastormMetadataGenerationError",
    "get_schema_from_dataset_url",
    "infer_or_load_unischema",
    "materialize_dataset",
    "write_metadata",
]

_CRC = f".{COMMON_METADATA}.crc"
"""Hadoop's checksum of a local file, which would no longer be right."""
_ROWS_BETWEEN_CHECKS = 3
"""Of a row group's size, while Spark writes it: rows may be large."""


@contextmanager
def materialize_dataset(
    spark: Any,
    dataset_url: str,
    schema: Unischema,
    row_group_size_mb: int | None = None,
    use_summary_metadata: bool = False,
    filesystem_factory: Callable[[], Any] | None = None,
) -> Iterator[None]:
    """A context to write Parquet to `dataset_url` in, by Spark; at its end the metadata is written.

    `row_group_size_mb` is the size of row groups in MiB. `use_summary_metadata` lets Spark write `_metadata` as well.
    `filesystem_factory` makes a file system of fsspec's or pyarrow.fs's. Spark's settings are as before afterwards, also where
    the context ends with an error; then nothing is written.

    Raises PetastormMetadataGenerationError where there are no Parquet files, SchemaError for a codec that stock Petastorm
    lacks.
    """
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001 - pyspark offers no other way
    wanted = {
        "parquet.summary.metadata.level": "ALL" if use_summary_metadata else "NONE",
        "parquet.summary.metadata.propagate-errors": "true",
        "parquet.block.size.row.check.min": str(_ROWS_BETWEEN_CHECKS),
        "parquet.row-group.size.row.check.min": str(_ROWS_BETWEEN_CHECKS),
        "parquet.page.size.row.check.min": str(_ROWS_BETWEEN_CHECKS),
        **({"parquet.block.size": str(row_group_size_mb * 2**20)} if row_group_size_mb else {}),
    }
    before = {name: hadoop.get(name) for name in [*wanted, "parquet.block.size"]}
    try:
        for name, value in wanted.items():
            hadoop.set(name, value)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                hadoop.unset(name)
            else:
                hadoop.set(name, value)
    write_metadata(open_files(dataset_url, filesystem_factory() if filesystem_factory else None), schema)


def write_metadata(files: Files, schema: Unischema) -> None:
    """Write, or replace, the `_common_metadata` of a folder of Parquet files.

    Raises PetastormMetadataGenerationError where there are none.
    """
    names = sorted(data_files(files.listing()))
    if not names:
        raise PetastormMetadataGenerationError(f"{files.url}: there are no Parquet files to describe")
    store = Store(files=files, names=tuple(names), hive=True)
    counts: dict[str, int] = {}
    for piece in store.pieces:
        counts[piece.file] = counts.get(piece.file, 0) + 1
    files.write(COMMON_METADATA, write_common_metadata(store.arrow_schema, to_stored(schema), counts))
    files.delete(_CRC)


def get_schema_from_dataset_url(
    dataset_url: str,
    hdfs_driver: str = "libhdfs3",  # noqa: ARG001 - it has no effect
    storage_options: Any = None,
    filesystem: Any = None,
) -> Unischema:
    """The schema that a dataset was written with. `hdfs_driver` has no effect.

    Raises PetastormMetadataError for a dataset without one.
    """
    files = open_files(dataset_url.rstrip("/"), filesystem, storage_options)
    stored = open_store(files).unischema
    if stored is None:
        raise PetastormMetadataError(
            f"{files.url}: has no {COMMON_METADATA} with a Unischema; materialize_dataset writes one, and make_batch_reader "
            "reads plain Parquet"
        )
    return from_stored(stored)


def infer_or_load_unischema(dataset_url: str, storage_options: Any = None, filesystem: Any = None) -> Unischema:
    """The schema that a dataset was written with, or what its Parquet files say. Raises DatasetNotFoundError."""
    return stored_schema(open_store(open_files(dataset_url.rstrip("/"), filesystem, storage_options)))
