"""Datasets that stock Petastorm wrote: Parquet files whose `_common_metadata` says what the bytes in their columns are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from shardwright.errors import InputError, SchemaError
from shardwright.format.common_metadata import read_common_metadata
from shardwright.format.layout import COMMON_METADATA
from shardwright.format.unischema import StoredField, StoredUnischema, parse_unischema
from shardwright.sources.base import AT, REJECT, InputFile
from shardwright.sources.files import find_files
from shardwright.sources.inputs import read_beside
from shardwright.sources.parquet import ParquetReader
from shardwright.sources.petastorm_fields import Form, new_form, partition_form
from shardwright.sources.petastorm_values import slices


class PetastormReader(ParquetReader):
    """Rows of the Parquet files of a Petastorm dataset, its fields as `petastorm_fields` says.

    The metadata lies beside the first file or in a folder above it, and is read once, in the driver. Columns that the Unischema
    does not name are left out, as Petastorm leaves them out.
    """

    def __init__(self) -> None:
        self._unischema: StoredUnischema | None = None
        self._metadata: tuple[InputFile, ...] = ()
        self._declared: dict[str, Mapping[str, Any]] = {}
        self._refused: dict[str, str] = {}

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns that the Unischema names; as null what there is no column of. Raises InputError without a Unischema."""
        if self._unischema is None:
            found, self._unischema = _find_unischema(file)
            self._metadata = (found,)
            forms = self._forms(file)
            self._declared = {name: form.declared for name, form in forms.items()}
            self._refused = {name: form.refused for name, form in forms.items() if form.refused}
        return pa.schema([(name, form.kind) for name, form in self._forms(file).items() if form.kind is not None])

    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """What the Unischema says of its fields, of those too that are hive partitions."""
        return self._declared

    def refused(self) -> Mapping[str, str]:
        """Fields that can't be held here, and those that there is nothing of."""
        return self._refused

    def beside(self) -> Sequence[InputFile]:
        """The file with the Unischema."""
        return self._metadata

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of row groups, cells of arrays as `numpy.save` bytes. Raises InputError for a damaged file."""
        forms = self._forms(file)
        if absent := [name for name in columns if forms[name].kind == pa.null()]:
            raise InputError(f"{file.path}: expected a column {absent[0]!a}, found {forms[absent[0]].refused}")
        compressed = [name for name in columns if forms[name].compressed]
        for whole in super().read(file, units, columns):
            for batch in slices(whole, compressed):
                yield _converted(batch, {name: forms[name] for name in columns})

    def _forms(self, file: InputFile) -> dict[str, Form]:
        assert self._unischema is not None
        columns = {column.name: column.type for column in super().schema(file)}
        return {field.name: field_form(field, columns, file) for field in self._unischema.fields}


def field_form(field: StoredField, columns: Mapping[str, pa.DataType], file: InputFile) -> Form:
    """What a field of a Unischema becomes, where `file` has these columns."""
    if field.name in columns:
        return new_form(field, columns[field.name])
    if field.name in {folder.partition("=")[0] for folder in file.name.split("/")[:-1] if "=" in folder}:
        return partition_form(field)
    return Form(declared={}, kind=pa.null(), refused=f"neither a column nor a folder {field.name!a}=…")


def _find_unischema(file: InputFile) -> tuple[InputFile, StoredUnischema]:
    found = read_beside(file, COMMON_METADATA)
    if found is None:
        raise InputError(
            f"{file.path}: expected a Petastorm dataset, found no {COMMON_METADATA} in its folder or above it; name the "
            'folder of the dataset as the input, or read it as plain Parquet (read.format = "parquet")'
        )
    path, data = found
    pickled = read_common_metadata(data, path).unischema
    if pickled is None:
        raise InputError(
            f'{path}: expected a Unischema, found none; read the dataset as plain Parquet (read.format = "parquet")'
        )
    unischema = parse_unischema(pickled)
    if not unischema.fields:
        raise SchemaError(f"{path}: expected fields, found a Unischema without any")
    return replace(find_files(path)[0], name=path.removeprefix(file.path.removesuffix(file.name))), unischema


def _converted(batch: pa.RecordBatch, forms: Mapping[str, Form]) -> pa.RecordBatch:
    columns = {AT: batch[AT]}
    reasons: dict[int, str] = {}
    for name, form in forms.items():
        columns[name], bad = form.convert(batch[name]) if form.convert else (batch[name], {})
        reasons |= {row: f"column {name!r}: {reason}" for row, reason in bad.items()}
    columns[REJECT] = pa.array([reasons.get(row) for row in range(batch.num_rows)], pa.string())
    return pa.RecordBatch.from_pydict(columns)
