"""`make_reader` and `make_batch_reader`, by Petastorm's names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Unpack

from shardwright.petastorm.arguments import ReaderArguments, split_arguments
from shardwright.petastorm.files import open_files, split_files
from shardwright.petastorm.ngram import NGram
from shardwright.petastorm.reading import Reader
from shardwright.petastorm.store import Store, open_store

__all__ = ["Reader", "make_batch_reader", "make_reader"]


def make_reader(
    dataset_url: str | list[str], schema_fields: Iterable[Any] | NGram | None = None, **options: Unpack[ReaderArguments]
) -> Reader:
    """A reader of rows: namedtuples of decoded values, of a dataset that Petastorm wrote.

    `dataset_url` is a directory (a URL, or a plain path), a Parquet file, or a list of such files. `schema_fields` are fields
    or regular expressions that match whole names (None: all), or an NGram. The other parameters are Petastorm's, by its names
    and with its defaults, and `shard_policy` and `memory_limit_bytes`: docs/petastorm.md has a table of them.

    Raises DatasetNotFoundError, UnsafeMetadataError for metadata with a hostile pickle, ValueError for bad arguments,
    NoDataAvailableError for more shards than row groups, ConfigError for what is refused.
    """
    return _make(dataset_url, schema_fields, options, batched=False)


def make_batch_reader(
    dataset_url_or_urls: str | list[str], schema_fields: Iterable[Any] | None = None, **options: Unpack[ReaderArguments]
) -> Reader:
    """A reader of batches, one a row group: namedtuples of arrays, of any folder of Parquet files with native columns.

    Parameters and errors are those of `make_reader`; predicates and transforms take a pandas DataFrame.
    """
    return _make(dataset_url_or_urls, schema_fields, options, batched=True)


def _make(url: Any, schema_fields: Iterable[Any] | NGram | None, given: ReaderArguments, *, batched: bool) -> Reader:
    options, filesystem, storage_options = split_arguments(schema_fields, given)
    store = _open(url, filesystem, storage_options)
    _warn_of_the_other(store, batched=batched)
    return Reader(store, options, batched=batched)


def _warn_of_the_other(store: Store, *, batched: bool) -> None:
    """Where the other function is the one for such a dataset."""
    stored = store.unischema
    if stored is None and not batched:
        warnings.warn(
            f"{store.url}: has no Unischema, so rows have what its native columns hold; make_batch_reader is faster for those",
            stacklevel=4,
        )
    if batched and stored and any(field.codec and field.codec.kind != "scalar" for field in stored.fields):
        warnings.warn(
            f"{store.url}: was written with codecs, and make_batch_reader hands values out as they are stored; use make_reader",
            stacklevel=4,
        )


def _open(url: str | Sequence[str], filesystem: Any, storage_options: Any) -> Store:
    if isinstance(url, list):
        if not url:
            raise ValueError("dataset url list must be non-empty.")
        root, names = split_files([_plain(one) for one in url])
        return open_store(open_files(root, filesystem, storage_options), names)
    url = _plain(url)
    files = open_files(url, filesystem, storage_options)
    if files.is_file():
        parent, _, name = url.rpartition("/")
        return open_store(open_files(parent, filesystem, storage_options), [name])
    return open_store(files)


def _plain(url: Any) -> str:
    if not isinstance(url, str):
        raise ValueError(f"directory url must be a string, found {url!r}")
    return url.rstrip("/") or "/"
