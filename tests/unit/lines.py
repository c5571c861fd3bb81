"""What the tests of formats of lines share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardwright.sources import open_source
from shardwright.sources.base import Source


def read(source: Source, task_bytes: int = 2**26) -> pa.Table:
    """All rows of a source, as tasks of that size read them after they travelled."""
    tasks = source.tasks(task_bytes)
    travelled = copy.deepcopy(source)
    return pa.Table.from_batches([batch for task in tasks for batch in travelled.read(task)])


def rows(format: str, path: Path, **options: Any) -> list[dict[str, Any]]:  # noqa: A002
    """The rows of a file, with `_source` and `_reject`."""
    return read(open_source(format, path, options=options)).to_pylist()


def reasons(table: pa.Table) -> dict[str, str]:
    """Why rows were refused, by where they are."""
    return {row["_source"]: row["_reject"] for row in table.to_pylist() if row["_reject"] is not None}
