"""Which samples a predicate selects: the predicate's columns are read once, row groups that can't hold any are skipped.

What a row group can hold follows from the column statistics in the footer of its part, of numbers and strings. They leave NaN
out. `parse_predicate` minds that; in a `pyarrow.compute.Expression` it can't be seen where NaN would matter, so one that asks
for a field of floats skips nothing.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardwright.errors import DecodeError, PredicateError, StorageError
from shardwright.format.layout import column
from shardwright.reader.files import VersionFiles
from shardwright.reader.predicate import parse_predicate, scalar_fields, show_fields
from shardwright.schema import FLOATS, Field, Schema

if TYPE_CHECKING:
    from shardwright.reader.dataset import Source

I64 = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)
_PARTS_AT_ONCE = 8
"""Remote parts answer late: several are asked at once."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """`indexes` of the samples selected, int64, in the order of those asked about; and what it took."""

    indexes: I64
    row_groups_read: int
    row_groups_skipped: int
    """By their statistics; row groups with none of the samples asked about are not counted."""


def find(source: Source, predicate: pc.Expression | str, indexes: I64) -> Found:
    """The samples among `indexes` (on disk) that `predicate` is true of; null is not true.

    Raises PredicateError when it can't be read or evaluated, CorruptError for a part that is missing or damaged.
    """
    schema = source.manifest.content.dataset_schema
    if isinstance(predicate, str):
        expression, possible = (parse_predicate(predicate, schema, by_statistics=by) for by in (False, True))
    else:
        expression, possible = predicate, _possible(predicate, schema)
    catalog, groups = source.catalog, source.catalog.row_groups
    asked = np.unique(groups.find(indexes))
    selected = np.zeros(catalog.samples, bool)
    scan = _Scan(source.files(), expression, possible, _arrow_schema(scalar_fields(schema)))

    def scan_part(part: int) -> int:
        mine = asked[groups.part[asked] == part]
        found = scan(part, groups.number[mine].tolist())
        for group in mine.tolist():
            if (rows := found.get(int(groups.number[group]))) is not None:
                selected[groups.first[group] : groups.first[group] + groups.samples[group]] = rows
        return len(found)

    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        read = sum(pool.map(scan_part, np.unique(groups.part[asked]).tolist()))
    out = Found(indexes=indexes[selected[indexes]], row_groups_read=read, row_groups_skipped=len(asked) - read)
    _log.info(
        "where %s: %d of %d samples; %d row groups read, %d skipped by their statistics",
        predicate, len(out.indexes), len(indexes), out.row_groups_read, out.row_groups_skipped,
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class _Scan:
    files: VersionFiles
    expression: pc.Expression
    possible: pc.Expression
    """True of at least the same samples, to skip row groups by."""
    schema: pa.Schema

    def __call__(self, part: int, row_groups: list[int]) -> dict[int, npt.NDArray[np.bool_]]:
        """Of each row group that was read, which of its samples are selected."""
        import pyarrow.dataset as ds  # here, since it imports pandas where there is one

        where = self.files.path(self.files.parts.name[part])
        options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
        try:
            fragment = parquet.make_fragment(self.files.source(part), row_groups=row_groups)
            fragment = fragment.subset(self.possible, schema=self.schema)
            kept = [(group.id, group.num_rows) for group in fragment.row_groups]
            if not kept:
                return {}
            table = fragment.to_table(schema=self.schema, columns={"selected": self.expression})
        except pa.ArrowException as error:
            raise PredicateError(f"{where}: {self.expression} can't be evaluated ({error})") from error
        except StorageError:
            raise
        except OSError as error:
            raise DecodeError(f"{where}: {self.expression} can't be evaluated ({error}); copy the file again") from error
        rows = pc.fill_null(table["selected"], False).to_numpy()
        ends = np.cumsum([samples for _, samples in kept])
        return {group: rows[end - samples : end] for (group, samples), end in zip(kept, ends.tolist(), strict=True)}


def _possible(expression: pc.Expression, schema: Schema) -> pc.Expression:
    """What to skip row groups by. Raises PredicateError unless `expression` is a predicate over scalar fields."""
    fields = scalar_fields(schema)
    problem = _problem(expression, fields)
    if problem is not None:
        raise PredicateError(f"{expression} is no predicate over the samples' scalar fields: {problem}; {show_fields(schema)}")
    without_floats = tuple(field for field in fields if field.dtype not in FLOATS)
    return expression if _problem(expression, without_floats) is None else pc.scalar(True)


def _problem(expression: pc.Expression, fields: tuple[Field, ...]) -> str | None:
    """Why `expression` is no predicate over `fields`; None: it is one."""
    import pyarrow.dataset as ds

    try:
        empty = _arrow_schema(fields).empty_table()
        found = ds.dataset(empty).scanner(columns={"selected": expression}).to_table().schema.field("selected").type
    except (pa.ArrowException, TypeError) as error:
        return str(error).splitlines()[0]
    return None if pa.types.is_boolean(found) else f"it gives {found}, expected bool"


def _arrow_schema(fields: tuple[Field, ...]) -> pa.Schema:
    return pa.schema([column(field).arrow_field for field in fields])
