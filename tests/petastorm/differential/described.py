"""Values as plain text that is equal where values are: kind, class, dtype, shape, order and bytes. For any version of NumPy."""

from __future__ import annotations

import datetime
import decimal
import hashlib
from typing import Any

import numpy as np


def describe(value: Any) -> list[Any]:
    """[kind, dtype, shape, digest or text] of what a reader handed out."""
    if value is None:
        return ["none"]
    if isinstance(value, (np.datetime64, datetime.datetime)):
        return [
            "time",
            type(value).__name__,
            str(np.datetime64(value).dtype),
            str(np.datetime64(value).astype("datetime64[ns]").astype("int64")),
        ]
    if isinstance(value, datetime.date):
        return ["date", value.isoformat()]
    if isinstance(value, (str, np.str_)):
        return ["str", type(value).__name__, str(value)]
    if isinstance(value, (bytes, bytearray, np.bytes_)):
        return ["bytes", type(value).__name__, hashlib.sha256(bytes(value)).hexdigest()]
    if isinstance(value, decimal.Decimal):
        return ["decimal", str(value)]
    if isinstance(value, (np.generic, np.ndarray)):
        return _array(np.asarray(value))
    if isinstance(value, (bool, int, float)):
        return ["python", type(value).__name__, repr(value)]
    if type(value).__name__ == "Categorical":  # what pandas makes of a partition column
        return _array(np.asarray(value).astype(np.str_))
    raise TypeError(f"no description of a {type(value).__name__}")


def _array(array: np.ndarray) -> list[Any]:
    kind = "scalar" if array.ndim == 0 else "array in Fortran's order" if array.flags.fnc else "array"
    if array.dtype.kind == "O":
        return [kind, "object", list(array.shape), [describe(one) for one in array.ravel().tolist()]]
    if array.dtype.kind == "U":  # the width of a dtype is that of its longest string
        return [kind, "str", list(array.shape), array.ravel().tolist()]
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return [kind, str(array.dtype.newbyteorder("=")), list(array.shape), hashlib.sha256(little.tobytes()).hexdigest()]
