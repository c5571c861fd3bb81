"""Other libraries as oracles: scripts that run in their own environments, and values as JSON that both sides write alike."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwright.format.batch import to_arrays
from shardwright.sources import Source
from shardwright.stages.clean import Clean
from tests.benchmarks.peers.environments import python_of

_PLAIN = '''
import json, sys
import numpy as np

def plain(value):
    """dtype, shape and elements; text as itself; bytes as digits."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    array = np.asarray(value)
    return [str(array.dtype), list(array.shape), array.tolist()]

def show(rows):
    print(json.dumps([plain(row) for row in rows]))
'''


def ask(environment: str, script: str, *arguments: str | Path) -> list[dict[str, Any]]:
    """The rows that a script shows by `show(rows)`, run by the Python of an environment."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python_of(environment), "-W", "ignore", "-c", _PLAIN + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=clean)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def plain(value: Any) -> Any:
    """A value as `ask` shows it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    array = np.asarray(value)
    values = array.astype(np.int64) if array.dtype.kind == "M" else array
    return [str(values.dtype), list(array.shape), values.tolist()]


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A sample as `ask` shows it."""
    return {name: plain(value) for name, value in row.items()}


def good_rows(source: Source, task_bytes: int = 2**26) -> Iterator[dict[str, Any]]:
    """The samples of a source, all of which are good; pictures as their bytes."""
    check = Clean(source.schema)
    for task in source.tasks(task_bytes):
        for batch in source.read(task):
            assert batch["_reject"].null_count == batch.num_rows, batch["_reject"].to_pylist()
            clean, rejects = check(batch)
            assert not rejects.reasons, rejects.reasons
            yield from _rows(source, clean)


def _rows(source: Source, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    arrays: dict[str, Any] = {}
    for field in source.schema:
        column = batch[field.name]
        arrays[field.name] = column.to_pylist() if field.is_image else to_arrays(field, column)[field.name]
    for row in range(batch.num_rows):
        yield {name: values[row] for name, values in arrays.items()}
