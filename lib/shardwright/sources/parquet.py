"""Parquet files; a piece is a row group."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import InputError
from shardwright.sources.base import AT, BATCH_BYTES, InputFile, Reader
from shardwright.sources.files import is_documentation
from shardwright.sources.inputs import damaged, open_arrow

_THREADS = 16
_INT96_UNIT = "us"
"""As what timestamps of 96 bits are read, as Spark does: nanoseconds would wrap around before the year 1678 and after 2261."""
_MAX_ROWS = 2**16
"""Rows of a batch at most: columns of few distinct values grow when they are decoded."""


class ParquetReader(Reader):
    """Rows of Parquet files."""

    def schema(self, file: InputFile) -> pa.Schema:
        """What the footer says."""
        try:
            return _types(_footer(file).schema)
        except (pa.ArrowException, OSError) as error:
            raise damaged(file, "a Parquet file", error) from error

    def units(self, file: InputFile) -> Sequence[int]:
        """Uncompressed bytes of each row group that has rows, and 0 for one that has none."""
        sizes = _row_groups(_footer(file), self.schema(file).names)
        return tuple(size for _, size in sizes) if any(rows for rows, _ in sizes) else ()

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of row groups. Raises InputError for a damaged file."""
        with _open(file) as parquet:
            sizes = _row_groups(_footer(file), columns)
            samples, size = (sum(sizes[group][i] for group in units) for i in (0, 1))
            rows = max(1, min(BATCH_BYTES * samples // max(size, 1), _MAX_ROWS))
            start = sum(count for count, _ in sizes[: units.start])
            try:
                for batch in parquet.iter_batches(rows, list(units), list(columns), use_threads=False):
                    at = pa.array([f"#{row}" for row in range(start, start + batch.num_rows)], pa.string())
                    yield batch.append_column(AT, at)
                    start += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise damaged(file, "a Parquet file", error) from error


def _types(schema: pq.ParquetSchema) -> pa.Schema:
    leaves = (schema.column(number) for number in range(len(schema)))
    old = {leaf.path for leaf in leaves if leaf.physical_type == "INT96"}
    out: pa.Schema = schema.to_arrow_schema()
    for number, field in enumerate(out):
        if field.name in old:
            out = out.set(number, field.with_type(pa.timestamp(_INT96_UNIT)))
    return out


def declared_fields(footers: Iterable[pq.FileMetaData]) -> dict[str, dict[str, Any]]:
    """What has to be declared of the columns of files so that no value is refused: nulls where the footers say that there may
    be some, and decimals as strings.
    """
    out: dict[str, dict[str, Any]] = {}
    for footer in footers:
        schema = footer.schema.to_arrow_schema()
        for name in _with_nulls(footer):
            out.setdefault(name, {})["nullable"] = True
        for field in schema:
            if pa.types.is_decimal(field.type):
                out.setdefault(field.name, {})["dtype"] = "string"
    return out


def read_footers(files: Sequence[InputFile]) -> dict[InputFile, pq.FileMetaData | InputError]:
    """The footers of the files that are no documentation, or what is wrong with them."""

    def read(file: InputFile) -> pq.FileMetaData | InputError:
        try:
            return read_footer(file)
        except InputError as error:
            return error

    data = [file for file in files if not is_documentation(file)]
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(data, threads.map(read, data), strict=True))


def read_footer(file: InputFile) -> pq.FileMetaData:
    """The footer of a file. Raises InputError for a damaged one."""
    try:
        with open_arrow(file, mapped=True) as source:
            return pq.read_metadata(source)
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, "a Parquet file", error) from error


def _with_nulls(footer: pq.FileMetaData) -> set[str]:
    """The columns that may hold nulls: all of which the statistics do not say that they hold none."""
    found = set()
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for leaf in range(footer.num_columns):
            column, described = group.column(leaf), footer.schema.column(leaf)
            known = column.is_stats_set and column.statistics.has_null_count
            if described.max_definition_level and not (known and column.statistics.null_count == 0):
                found.add(described.path.partition(".")[0])
    return found


@functools.lru_cache(maxsize=2)
def _footer(file: InputFile) -> pq.FileMetaData:
    """The footer of a file: asked for several times in a row, parsed once."""
    return read_footer(file)


def _open(file: InputFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            open_arrow(file, mapped=True), metadata=_footer(file), pre_buffer=file.remote, page_checksum_verification=True,
            coerce_int96_timestamp_unit=_INT96_UNIT,
        )  # fmt: skip
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, "a Parquet file", error) from error


def _row_groups(metadata: pq.FileMetaData, names: Sequence[str]) -> list[tuple[int, int]]:
    """Rows of each row group, and the bytes of those columns in it."""
    wanted = set(names)
    leaves = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path.partition(".")[0] in wanted]
    out = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        out.append((group.num_rows, sum(group.column(leaf).total_uncompressed_size for leaf in leaves)))
    return out
