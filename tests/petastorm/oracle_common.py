"""How rows pass from stock Petastorm's environment to the tests: one .npz file, no pickle. NumPy and stdlib only."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

_ROWS = "rows"


def pack(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The members of the .npz file: JSON with what JSON can say, and one array for each other value."""
    members: dict[str, np.ndarray] = {}
    plain = [
        {name: _cell(value, f"{number}/{name}", members) for name, value in row.items()} for number, row in enumerate(rows)
    ]
    members[_ROWS] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    return members


def unpack(members: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """What `pack` was given: NumPy values keep their dtype, datetimes come as datetime64."""
    rows = json.loads(members[_ROWS].tobytes())
    return [{name: _value(cell, members) for name, cell in row.items()} for row in rows]


def _cell(value: Any, member: str, members: dict[str, np.ndarray]) -> dict[str, Any]:
    if isinstance(value, str):  # also numpy.str_
        return {"json": str(value)}
    if value is None or type(value) in (bool, int, float):
        return {"json": value}
    if isinstance(value, bytes):  # also numpy.bytes_, which as an array would lose zeros at its end
        members[member] = np.frombuffer(bytes(value), np.uint8)
        return {"bytes": member}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime.datetime):  # also pandas.Timestamp and NaT
        value = np.datetime64(value.isoformat())
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.hasobject:
        raise TypeError(f"{member}: no way to pass on a {type(value).__name__}")
    members[member] = np.asarray(value)
    return {"array": member}


def _value(cell: dict[str, Any], members: Mapping[str, np.ndarray]) -> Any:
    if "json" in cell:
        return cell["json"]
    if "bytes" in cell:
        return members[cell["bytes"]].tobytes()
    if "decimal" in cell:
        return Decimal(cell["decimal"])
    return members[cell["array"]][()]
