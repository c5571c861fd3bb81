"""What the values of an MDS shard become: columns, by their encodings and, where these do not say, by the first arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardwright.codecs import encode_npy
from shardwright.errors import DecodeError, InputError
from shardwright.format.mds import NUMBERS, OPAQUE, PICTURES, TEXTS, Encoding
from shardwright.sources.columns import PICTURE, Declaration, common_shape, parse_texts

_PARSED = {"str_int": pa.int64(), "str_float": pa.float64()}


@dataclass(frozen=True)
class Column:
    """How the values of a column are read."""

    encoding: Encoding
    known: Declaration

    @property
    def kind(self) -> pa.DataType:
        """The type of the column: binary where samples are checked as cells, texts or pictures."""
        leaf = pa.from_numpy_dtype(np.dtype(self.encoding.dtype)) if self.encoding.dtype else None
        if self.encoding.name in NUMBERS:
            micros = self.encoding.dtype == "int64" and self.known.get("dtype") == "timestamp"
            return pa.timestamp("us") if micros else leaf
        if self.encoding.shape:
            return pa.list_(leaf, math.prod(self.encoding.shape))
        return _PARSED.get(self.encoding.name, pa.binary())

    def read(self, values: Sequence[bytes]) -> tuple[pa.Array, dict[int, str]]:
        """The values as an array, null or any where one is none of its encoding, and for those rows the reason."""
        if self.encoding.size is not None:
            return self._fixed(values, self.encoding.size)
        if self.encoding.name in _PARSED:
            return parse_texts(values, self.kind)
        if self.encoding.name == "ndarray":
            return self._arrays(values)
        return pa.array(values, pa.binary()), {}

    def _fixed(self, values: Sequence[bytes], width: int) -> tuple[pa.Array, dict[int, str]]:
        """Numbers and arrays of one size."""
        bad = {
            row: f"expected {width} bytes for {self.encoding}, found {len(value)}"
            for row, value in enumerate(values)
            if len(value) != width
        }
        block = b"".join(bytes(width) if row in bad else value for row, value in enumerate(values))
        numbers = pa.array(np.frombuffer(block, np.dtype(self.encoding.dtype).newbyteorder("<")))
        return pa.FixedSizeListArray.from_arrays(numbers, type=self.kind) if self.encoding.shape else numbers.cast(
            self.kind
        ), bad

    def _arrays(self, values: Sequence[bytes]) -> tuple[pa.Array, dict[int, str]]:
        """As `numpy.save` cells."""
        cells: list[bytes | None] = []
        bad = {}
        for row, value in enumerate(values):
            try:
                array = self.encoding.decode_array(value)
            except DecodeError as error:
                bad[row] = str(error)
                cells.append(None)
                continue
            if self.known.get("dtype") == "bool" and array.dtype == np.uint8 and array.max(initial=0) <= 1:
                array = array.astype(bool)
            cells.append(encode_npy(array))
        return pa.array(cells, pa.binary()), bad


def known_of(column: str, encoding: Encoding, first: Sequence[bytes], declared: Declaration, where: str) -> Declaration:
    """What is known of a column by its encoding and, of arrays, by the `first` values; above it what is declared.

    Raises InputError for what can't be a field.
    """
    if encoding.name in OPAQUE:
        if declared.get("dtype") != "bytes":
            why = "are pickles, which can run any code when loaded" if encoding.name == "pkl" else "no field can hold"
            raise InputError(
                f"{where}: column {column!r} has values of encoding {str(encoding)!r} that {why}, and are not decoded; "
                'leave it out by read.columns, or keep their bytes as they are: dtype = "bytes" in read.fields'
            )
        return declared
    if encoding.name in PICTURES:
        return {**({} if declared.get("dtype") == "bytes" else PICTURE), **declared}
    if encoding.name in TEXTS:
        return {"dtype": "string", **declared}
    if encoding.name != "ndarray" or ("dtype" in declared and "shape" in declared):
        return declared
    return {**_array(column, encoding, first, where), **declared}


def _array(column: str, encoding: Encoding, first: Sequence[bytes], where: str) -> Declaration:
    """The dtype and shape of arrays; a dimension that is not the same in all of the first ones varies."""
    if encoding.dtype and encoding.shape:
        return {"dtype": encoding.dtype, "shape": encoding.shape}
    found, problem = [], "none in the first samples"
    for value in first:
        try:
            found.append(encoding.decode_array(value))
        except DecodeError as error:
            problem = str(error)
    if not found:
        raise InputError(f"{where}: column {column!r}: expected arrays, found {problem}; say what they are by read.fields")
    shapes = [one.shape for one in found if one.dtype == found[0].dtype]
    return {"dtype": found[0].dtype.name, "shape": common_shape(shapes)}
