"""Inputs that Spark itself reads: a table of its catalog (of Hive's, where the session is configured so), or a query."""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame

from shardwright.errors import InputError, InputNotFoundError
from shardwright.spark.session import open_session
from shardwright.stages.read import ReadOptions

_NOT_FOUND = ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND", "CATALOG_NOT_FOUND", "PATH_NOT_FOUND")


def open_table(read: ReadOptions, name: str) -> tuple[DataFrame, str]:
    """The rows that `read` asks for, and what to call them; starts Spark.

    Raises InputNotFoundError for a table that is not there, InputError for a query that Spark refuses.
    """
    session = open_session(name)
    described = f"query {read.query}" if read.query else f"table {read.paths[0]}"
    try:
        return session.sql(read.query) if read.query else session.table(read.paths[0]), described
    except AnalysisException as error:
        missing = str(error.getCondition()).startswith(_NOT_FOUND)
        raise (InputNotFoundError if missing else InputError)(f"{described}: {_told(error)}") from error


def _told(error: AnalysisException) -> str:
    """Spark's message in one line, without its code and the plan."""
    lines = str(error.getMessage()).partition("SQLSTATE")[0].replace(f"[{error.getCondition()}]", "").split("\n")
    return " ".join(line.strip() for line in lines if line.strip())
