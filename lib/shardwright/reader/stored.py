"""The samples of a part as they are stored, row group by row group: for jobs that pass over whole versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardwright.errors import CorruptError
from shardwright.format.layout import KEY, KEY_COLUMN, PAD, column, sample_type
from shardwright.reader.catalog import Parts
from shardwright.reader.files import VersionFiles
from shardwright.schema import Schema

PLACE = "_place"
"""The number of a sample in its part, pads counted: int64."""


def part_files(url: str, version: str, name: str, size: int) -> VersionFiles:
    """The files of a version with one part, number 0: `name` (relative to the version) of `size` bytes."""
    none = np.zeros(1, np.int64)
    return VersionFiles(url, version, Parts(name=(name,), bytes=(size,), first=none, samples=none))


def stored_samples(files: VersionFiles, part: int, schema: Schema, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The samples of a part, without pads: for each row group a batch with the columns `names`, `_key` and `_place` among them.

    Values are what is stored (`numpy.save` cells, encoded pictures, …), numbers in the field's own dtype. Raises CorruptError.
    """
    file = files.parquet(part)
    padded = PAD in file.schema_arrow.names
    first = 0
    for group in range(file.metadata.num_row_groups):
        table = _read(files, part, file, group, [*(name for name in names if name != PLACE), *([PAD] if padded else [])])
        table = table.append_column(PLACE, pa.array(np.arange(first, first + table.num_rows)))
        first += table.num_rows
        if padded:
            table = table.filter(pc.invert(table[PAD]))
        if table.num_rows:
            arrays = [table[name].combine_chunks().cast(_stored_type(schema, name)) for name in names]
            yield pa.RecordBatch.from_arrays(arrays, list(names))


def _stored_type(schema: Schema, name: str) -> pa.DataType:
    if name in (KEY, PLACE):
        return KEY_COLUMN.arrow_type if name == KEY else pa.int64()
    field = schema[name]
    return column(field).arrow_type if field.shape else sample_type(field)


def _read(files: VersionFiles, part: int, file: pq.ParquetFile, group: int, names: list[str]) -> pa.Table:
    where = files.path(files.parts.name[part])
    try:
        table = file.read_row_group(group, columns=names, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{where}: row group {group} can't be read ({error}); copy the file again") from error
    absent = [name for name in names if name not in table.column_names]
    if absent:
        raise CorruptError(f"{where}: no column {', '.join(absent)}; copy the file again")
    return table
