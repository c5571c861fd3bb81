"""The Parquet files of a dataset that stock Petastorm, or anything else, wrote: files, hive partitions, row groups, footers.

Order and visibility are Petastorm's (measured on 0.13.1): row groups are numbered file by file in the order of the paths; names
that begin with '_' or '.' are no data; values of hive partitions are as the directory's name has them, not %-unescaped.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import DatasetNotFoundError, InputError
from shardwright.format.common_metadata import read_common_metadata
from shardwright.format.layout import COMMON_METADATA
from shardwright.format.unischema import StoredUnischema, parse_unischema
from shardwright.petastorm.errors import PetastormMetadataError
from shardwright.petastorm.files import Files

_DATA = (".parquet", ".parq", ".pq")
_THREADS = 16
"""Footers are read so many at a time: over a network each costs a request or two."""


class Piece(NamedTuple):
    """A row group."""

    file: str
    row_group: int


@dataclass(frozen=True, kw_only=True)
class Store:
    """The files of a dataset, opened."""

    files: Files
    names: tuple[str, ...]
    """Of the data files, in order; one that was given twice is there twice."""
    hive: bool
    """Whether directories ``key=value`` are partition columns: of a whole dataset, not of single files."""
    unischema: StoredUnischema | None = None
    """What its `_common_metadata` says of its fields; None where there is none, or it says nothing."""
    row_groups: Mapping[str, int] | None = None
    """What it says of how many row groups each file has."""
    _footers: dict[str, pq.FileMetaData] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """What was opened."""
        return self.files.url

    @functools.cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All row groups, by number. Raises PetastormMetadataError for a data file that the metadata does not know."""
        counts = self.row_groups
        if counts is None:
            if self.unischema is not None:
                warnings.warn(
                    f"{self.url}: {COMMON_METADATA} lacks the row groups of the files; all footers are read", stacklevel=2
                )
            counts = {name: self.footer(name).num_row_groups for name in self._with_footers(self.names)}
        elif unknown := [name for name in self.names if name not in counts]:
            raise PetastormMetadataError(
                f"{self.url}: {len(unknown)} data files are not in {COMMON_METADATA}, for example {unknown[0]!r}: they were "
                "written after it; run materialize_dataset (petastorm.etl.dataset_metadata) again, or take them away"
            )
        return tuple(Piece(name, group) for name in self.names for group in range(counts[name]))

    def partitions(self, name: str) -> dict[str, Any]:
        """The values of the partition columns in a file: ints where all values of that column are."""
        return {key: self.partition_type(key)(value) for key, value in self._hive_of(name).items()}

    def partition_type(self, key: str) -> type[int | str]:
        """`int` or `str`. Raises KeyError for a column that is no partition."""
        return self._partition_types[key]

    @property
    def partition_names(self) -> tuple[str, ...]:
        """The partition columns, from the outermost directory inwards."""
        return tuple(self._partition_types)

    @functools.cached_property
    def _partition_types(self) -> dict[str, type[int | str]]:
        values: dict[str, set[str]] = {}
        for name in self.names:
            for key, value in self._hive_of(name).items():
                values.setdefault(key, set()).add(value)
        return {key: int if all(map(_is_int, found)) else str for key, found in values.items()}

    def _hive_of(self, name: str) -> dict[str, str]:
        if not self.hive:
            return {}
        return dict(folder.split("=", 1) for folder in name.split("/")[:-1] if "=" in folder)

    def footer(self, name: str) -> pq.FileMetaData:
        """The footer of a file; read once. Raises InputError for a file that is no Parquet."""
        if name not in self._footers:
            try:
                with self.files.open(name) as source:
                    self._footers[name] = pq.read_metadata(source)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(name, error) from error
        return self._footers[name]

    def knows(self, name: str) -> bool:
        """Whether the footer of a file was read already."""
        return name in self._footers

    def rows_of(self, pieces: Sequence[Piece]) -> list[int]:
        """The number of rows of each of these row groups; reads the footers of their files."""
        self._with_footers(sorted({piece.file for piece in pieces}))
        return [self._row_group(piece).num_rows for piece in pieces]

    def read(self, piece: Piece, columns: Sequence[str]) -> pa.Table:
        """The columns of a row group, in that order. Raises InputError for a damaged file, or one that lacks a column."""
        self._row_group(piece)
        footer = self.footer(piece.file)
        try:
            with self.files.open(piece.file) as source:
                parquet = pq.ParquetFile(source, metadata=footer, pre_buffer=not self.files.local)
                if lacking := [name for name in columns if name not in parquet.schema_arrow.names]:
                    raise InputError(
                        f"{self.url}/{piece.file}: lacks the columns {', '.join(map(repr, lacking))} of the schema"
                    )
                return parquet.read_row_group(piece.row_group, list(columns), use_threads=False).select(list(columns))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(piece.file, error) from error

    def bytes_of(self, piece: Piece, columns: Sequence[str]) -> int:
        """The uncompressed bytes of these columns of a row group."""
        group, wanted = self._row_group(piece), set(columns)
        chunks = (group.column(number) for number in range(group.num_columns))
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in wanted)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns of the first file, without partitions."""
        return self.footer(self.names[0]).schema.to_arrow_schema()

    def _row_group(self, piece: Piece) -> pq.RowGroupMetaData:
        """What the footer says of a row group. Raises PetastormMetadataError where there is none of that number."""
        footer = self.footer(piece.file)
        if piece.row_group >= footer.num_row_groups:
            raise PetastormMetadataError(
                f"{self.url}/{piece.file}: has {footer.num_row_groups} row groups, {COMMON_METADATA} says more: the file was "
                "written after it; run materialize_dataset (petastorm.etl.dataset_metadata) again"
            )
        return footer.row_group(piece.row_group)

    def _with_footers(self, names: Sequence[str]) -> Sequence[str]:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="shardwright-footers") as threads:
            list(threads.map(self.footer, dict.fromkeys(names)))
        return names

    def _damaged(self, name: str, error: Exception) -> InputError:
        return InputError(f"{self.url}/{name}: expected a Parquet file, found one that can't be read ({error})")


def open_store(files: Files, names: Sequence[str] | None = None) -> Store:
    """The dataset in a directory, or the files `names` in it, in that order.

    Raises DatasetNotFoundError where there are no data files, UnsafeMetadataError for a hostile `_common_metadata`.
    """
    if names is not None:
        return Store(files=files, names=tuple(names), hive=False)
    listed = sorted(files.listing())
    if not listed:
        raise DatasetNotFoundError(f"{files.url}: no files there")
    where = f"{files.url}/{COMMON_METADATA}"
    common = read_common_metadata(files.read(COMMON_METADATA), where) if COMMON_METADATA in listed else None
    row_groups = common.row_groups if common else None
    data = list(data_files(listed, row_groups))
    if not data:
        raise DatasetNotFoundError(f"{files.url}: no Parquet files there (names that begin with '_' or '.' do not count)")
    if row_groups is not None and (gone := sorted(set(row_groups) - set(data))):
        warnings.warn(
            f"{files.url}: {len(gone)} files of {COMMON_METADATA} are not there, for example {gone[0]!r}", stacklevel=2
        )
    unischema = parse_unischema(common.unischema) if common and common.unischema is not None else None
    return Store(files=files, names=tuple(data), hive=True, unischema=unischema, row_groups=row_groups)


def data_files(listed: Sequence[str], known: Mapping[str, int] | None = None) -> Iterator[str]:
    """The data among the files of a dataset; those that its metadata knows may have any ending."""
    for name in listed:
        if any(part.startswith(("_", ".")) for part in name.split("/")):
            continue
        if name.endswith(_DATA) or known is None or name in known:
            yield name


def _is_int(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
