"""read: from raw input to samples that carry their key."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from shardwright.errors import ConfigError, InputError
from shardwright.format.layout import KEY
from shardwright.hashing.sample_key import KEY_BYTES, key_column, path_keys, sample_keys
from shardwright.schema import Schema
from shardwright.sources import SPARK_FORMATS, check_format
from shardwright.sources.base import REJECT
from shardwright.stages import SOURCE, Rejects

_READING = re.compile(r"\s*\(*\s*(select|with|from|table|values)\b", re.IGNORECASE)
CONTENT = "_content"
"""XXH3-128 of the whole sample, where the key is made of less."""


class ReadOptions(BaseModel):
    """What is read, and what identifies a sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    """One of `shardwright.sources.FORMATS`, a team's own `Reader` as "pkg.mod:Class", or what Spark reads: a table, or a query
    ("sql")."""
    options: dict[str, Any] = {}
    """What the format takes."""
    path: str | tuple[str, ...] = Field(default=(), validate_default=True)
    """File, folder, glob or URL, or a list of them; the name of a table."""
    query: str | None = Field(default=None, validate_default=True)
    """What format "sql" asks Spark."""
    columns: tuple[str, ...] | None = None
    """The fields to take; all by default."""
    fields: dict[str, dict[str, Any]] = {}
    """What is known of a field better than the input says: dtype, shape, codec, nullable."""
    rename: dict[str, str] = {}
    """Fields that are called otherwise than their columns, with the names of these; all else goes by the names of fields."""
    key: tuple[str, ...] = ()
    """The fields that identify a sample; by default the file's path where a file holds one sample, else the content."""
    duplicate_keys: Literal["error", "keep"] = "error"
    """What to do with samples of one configured key and different contents."""
    task_bytes: int = Field(default=128 * 2**20, ge=1)
    """Bytes of input that one task reads; of no influence on the result."""

    @field_validator("format")
    @classmethod
    def _check_format(cls, format: str) -> str:  # noqa: A002
        try:
            check_format(format)
        except ConfigError as error:
            raise ValueError(error.problems[0]) from error
        return format

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if options and info.data.get("format") in SPARK_FORMATS:
            raise ValueError("what Spark reads takes no options here: set spark.* for the session")
        return options

    @field_validator("path", mode="before")
    @classmethod
    def _check_path(cls, path: object, info: ValidationInfo) -> object:
        format_ = info.data.get("format")
        if format_ == "sql" and path == ():
            return path
        if format_ == "sql":
            raise ValueError("the query says what is read; leave path out")
        if path == ():
            raise PydanticCustomError("missing", "missing")
        if format_ == "table" and not isinstance(path, str):
            raise ValueError("expected the name of one table, such as db.table")
        if isinstance(path, str) or (isinstance(path, (list, tuple)) and path and all(isinstance(one, str) for one in path)):
            return path
        raise ValueError("expected a path, or a list of paths")

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("format") != "sql" and query is not None:
            raise ValueError('only format = "sql" takes a query')
        if info.data.get("format") == "sql" and query is None:
            raise PydanticCustomError("missing", "missing")
        if query is not None and not _READING.match(query):
            raise ValueError("expected a query that reads: SELECT …, WITH …, FROM …, TABLE … or VALUES …")
        return query

    @property
    def by_spark(self) -> bool:
        """Whether Spark reads it itself."""
        return self.format in SPARK_FORMATS

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


class AddKeys:
    """Adds `_key` (16 bytes) to a batch as read, and `_content` where the key is made of chosen fields."""

    name = "read"

    def __init__(self, schema: Schema, *, key: tuple[str, ...] = (), sample_per_file: bool = False) -> None:
        self._schema = schema
        self._key = tuple(name for name in schema.names if name in key)
        self._by_path = sample_per_file and not key
        for name in key:
            schema[name]  # raises SchemaError with the nearest name

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The batch with its keys; rows that the source refuses are rejected, with its reasons."""
        batch, rejects = _take_refused(batch)
        return self._add(batch), rejects

    def _add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._by_path:
            return _append(batch, KEY, path_keys(batch[SOURCE].to_pylist()))
        content = _hash(self._schema, self._schema.names, batch)
        if not self._key:
            return _append(batch, KEY, content)
        return _append(_append(batch, KEY, _hash(self._schema, self._key, batch)), CONTENT, content)


class AddContent:
    """Adds `_content` to samples that have their keys already."""

    name = "read"

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The batch with the hashes of its samples."""
        return _append(batch, CONTENT, _hash(self._schema, self._schema.names, batch)), Rejects()


def _hash(schema: Schema, names: tuple[str, ...], batch: pa.RecordBatch) -> npt.NDArray[np.uint8]:
    columns = []
    for name in names:
        field = schema[name]
        shape = tuple(size or 0 for size in field.shape)
        try:
            columns.append(key_column(batch[name], shape, field.numpy_dtype.str if field.fixed else None))
        except TypeError as error:
            raise InputError(f"field {name!r}: {error}; set read.key to other fields") from error
    return sample_keys(columns, batch.num_rows)


def _take_refused(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
    if REJECT not in batch.schema.names:
        return batch, Rejects()
    reasons = batch[REJECT]
    batch = batch.drop_columns([REJECT])
    rows = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False)).tolist()
    if not rows:
        return batch, Rejects()
    return batch.filter(reasons.is_null()), Rejects(rows, [""] * len(rows), [reasons[row].as_py() for row in rows])


def _append(batch: pa.RecordBatch, name: str, rows: npt.NDArray[np.uint8]) -> pa.RecordBatch:
    kind = pa.binary(KEY_BYTES)
    return batch.append_column(name, pa.Array.from_buffers(kind, len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))]))
