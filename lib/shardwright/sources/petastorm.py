"""Datasets that stock Petastorm wrote: Parquet with a Unischema, which is read without running its pickle.

=============================  =================================================================================
field of the Unischema         field here
=============================  =================================================================================
number, bool, string, bytes    the same dtype
Decimal                        string: its digits as they are stored, `str(Decimal)`
date, timestamp                timestamp
array of numbers or bools      the same dtype and shape, in C order; `CompressedNdarrayCodec` is unpacked
array of str                   string: JSON, nested as the array is
array of bytes                 string: JSON of the same form, each byte as the character of its number (Latin-1)
picture                        image: the bytes as they are
list column without a codec    an array of one dimension
=============================  =================================================================================
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardwright.errors import InputError, SchemaError
from shardwright.format.unischema import StoredField, StoredUnischema, read_common_metadata
from shardwright.schema import NUMBERS
from shardwright.sources.base import REJECT, InputFile
from shardwright.sources.inputs import read_beside
from shardwright.sources.parquet import ParquetReader

COMMON_METADATA = "_common_metadata"
_NUMBERS = frozenset({*NUMBERS, "bool_"})
_TEXTS = frozenset({"str_", "bytes_"})
_SCALARS = {"bool_": "bool", "str_": "string", "bytes_": "bytes", "datetime64": "timestamp", "Decimal": "string"}
_MOST_ARRAY_BYTES = 2**31
Convert = Callable[[bytes], Any]


class PetastormReader(ParquetReader):
    """Rows of a Petastorm dataset, of all codecs; a folder without `_common_metadata` is refused: it is plain Parquet."""

    def __init__(self) -> None:
        self._unischema: StoredUnischema | None = None

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns of the file that the Unischema names, in its order."""
        stored, found = self._stored(file), super().schema(file)
        return pa.schema(
            [pa.field(one.name, _kind(one, found.field(one.name).type)) for one in stored.fields if one.name in found.names]
        )

    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """What the Unischema declares. Raises SchemaError for a field that has no form here."""
        if self._unischema is None:
            return {}
        return {one.name: declaration(one) for one in self._unischema.fields}

    def read(self, file: InputFile, units: range, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of row groups, arrays as `numpy.save` cells. A value that can't be unpacked is one rejected row."""
        by_name = {one.name: one for one in self._stored(file).fields}
        for batch in super().read(file, units, columns):
            rejected: dict[int, str] = {}
            arrays = [
                _converted(by_name[name], batch.column(name), rejected) if name in by_name else batch.column(name)
                for name in batch.schema.names
            ]
            out = pa.RecordBatch.from_arrays(arrays, batch.schema.names)
            if rejected:
                out = out.append_column(REJECT, pa.array([rejected.get(row) for row in range(len(out))], pa.string()))
            yield out

    def _stored(self, file: InputFile) -> StoredUnischema:
        """The Unischema of the dataset, read once."""
        if self._unischema is None:
            beside = read_beside(file, COMMON_METADATA)
            if beside is None:
                raise InputError(
                    f"{file.path}: no {COMMON_METADATA} in its folder or above; plain Parquet is read.format = 'parquet'"
                )
            path, data = beside
            found = read_common_metadata(data).unischema
            if found is None:
                raise InputError(f"{path}: has no Unischema; plain Parquet is read.format = 'parquet'")
            self._unischema = found
        return self._unischema


def declaration(field: StoredField) -> dict[str, Any]:
    """The keys of a `schema.Field` for a field of a Unischema. Raises SchemaError for one that has no form here."""
    nullable = {"nullable": True} if field.nullable else {}
    kind = field.codec.kind if field.codec else None
    if kind == "image":
        return {"dtype": field.dtype, "shape": field.shape, "codec": "image", **nullable}
    array = kind in ("ndarray", "compressed_ndarray")
    if array and field.dtype in _TEXTS:
        return {"dtype": "string", **nullable}
    if field.dtype in _NUMBERS:
        dtype = "bool" if field.dtype == "bool_" else field.dtype
        if array and not field.shape:
            raise _no_form(field, "an array of no dimension")
        return {"dtype": dtype, **({"shape": field.shape} if field.shape else {}), **nullable}
    if not array and not field.shape and field.dtype in _SCALARS:
        return {"dtype": _SCALARS[field.dtype], **nullable}
    raise _no_form(field, f"{field.dtype} of shape {field.shape}")


def _no_form(field: StoredField, what: str) -> SchemaError:
    return SchemaError(f"field {field.name!r}: {what} has no form here; leave it out by read.columns")


def _kind(field: StoredField, found: pa.DataType) -> pa.DataType:
    """The type in which a column is read, of one that is stored as `found`."""
    array = field.codec is not None and field.codec.kind in ("ndarray", "compressed_ndarray")
    if (array and field.dtype in _TEXTS) or field.dtype == "Decimal":
        return pa.string()
    return pa.binary() if field.dtype == "bytes_" and not array else found


def _converted(field: StoredField, column: pa.Array, rejected: dict[int, str]) -> pa.Array:
    kind = field.codec.kind if field.codec else None
    if kind == "compressed_ndarray":
        unpacked = _each(field, column, _unpacked, rejected, pa.binary())
        return _each(field, unpacked, _as_json, rejected, pa.string()) if field.dtype in _TEXTS else unpacked
    if kind == "ndarray" and field.dtype in _TEXTS:
        return _each(field, column, _as_json, rejected, pa.string())
    if field.dtype == "Decimal":
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.binary()) if field.dtype == "bytes_" and kind != "ndarray" else column


def _each(field: StoredField, column: pa.Array, convert: Convert, rejected: dict[int, str], kind: pa.DataType) -> pa.Array:
    values = []
    for row, value in enumerate(column.to_pylist()):
        try:
            values.append(None if value is None else convert(value))
        except (ValueError, KeyError, EOFError, OSError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
            rejected.setdefault(row, f"column {field.name!r}: can't be unpacked ({error})")
            values.append(None)
    return pa.array(values, kind)


def _unpacked(cell: bytes) -> bytes:
    """The `numpy.save` cell in a `numpy.savez_compressed` archive."""
    with zipfile.ZipFile(io.BytesIO(cell)) as archive:
        entry = archive.getinfo("arr.npy")
        if entry.file_size > _MOST_ARRAY_BYTES:
            raise ValueError(f"an array of {entry.file_size} bytes")
        return archive.read(entry)


def _as_json(cell: bytes) -> str:
    """An array of strings as JSON; bytes by Latin-1, which is theirs back."""
    array = np.lib.format.read_array(io.BytesIO(cell), allow_pickle=False)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "latin-1")
    if array.dtype.kind != "U":
        raise ValueError(f"expected an array of strings, found {array.dtype}")
    return json.dumps(array.tolist(), ensure_ascii=False)
