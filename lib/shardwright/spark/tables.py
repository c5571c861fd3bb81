"""Inputs that Spark itself reads: a table of its catalog (of Hive's, where the session is configured so), or a query."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.types import DecimalType, FractionalType, IntegralType

from shardwright.errors import InputError, InputNotFoundError
from shardwright.schema import FLOATS, INTEGERS
from shardwright.sources.columns import Asked
from shardwright.spark.session import open_session
from shardwright.stages.read import ReadOptions

_NOT_FOUND = ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND", "CATALOG_NOT_FOUND", "PATH_NOT_FOUND")


def open_table(read: ReadOptions, name: str) -> tuple[DataFrame, str]:
    """The rows that `read` asks for, their columns by the names of fields, and what to call them; starts Spark.

    Raises InputNotFoundError for a table that is not there, InputError for a query that Spark refuses, SchemaError for columns
    that can't be renamed.
    """
    session = open_session(name)
    described = f"query {read.query}" if read.query else f"table {read.paths[0]}"
    try:
        frame = session.sql(read.query) if read.query else session.table(read.paths[0])
    except AnalysisException as error:
        missing = str(error.getCondition()).startswith(_NOT_FOUND)
        raise (InputNotFoundError if missing else InputError)(f"{described}: {_told(error)}") from error
    columns = Asked(rename=read.rename).renamed({name: name for name in frame.columns}, where=described)
    frame = frame.withColumnsRenamed({column: name for name, column in columns.items()})
    return _as_declared(frame, {name: declared.get("dtype") for name, declared in read.fields.items()}), described


def _as_declared(frame: DataFrame, dtypes: Mapping[str, str | None]) -> DataFrame:
    """Columns in the types in which those of files are read, so that keys are the same (`sources.columns.read_type`).

    But no decimals as whole numbers: Spark would cut their fractions off.
    """
    casts = {}
    for field in frame.schema:
        kind, dtype = field.dataType, dtypes.get(field.name)
        if dtype in INTEGERS and isinstance(kind, IntegralType):
            casts[field.name] = "bigint"
        elif dtype in FLOATS and isinstance(kind, FractionalType):
            casts[field.name] = "double"
        elif dtype == "string" and isinstance(kind, DecimalType):
            casts[field.name] = "string"
    return frame.withColumns({name: sf.col(f"`{name}`").cast(kind) for name, kind in casts.items()}) if casts else frame


def _told(error: AnalysisException) -> str:
    """Spark's message in one line, without its code and the plan."""
    lines = str(error.getMessage()).partition("SQLSTATE")[0].replace(f"[{error.getCondition()}]", "").split("\n")
    return " ".join(line.strip() for line in lines if line.strip())
