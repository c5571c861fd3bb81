"""Names that NumPy 1.24 or 2 removed, for Petastorm's own tests, in their process and in Spark's workers."""

from __future__ import annotations

import numpy as np

_NAMES = {"unicode_": np.str_, "string_": np.bytes_, "bool": bool, "float": float, "int": int, "object": object}
for _name, _value in _NAMES.items():
    if _name not in np.__dict__:
        setattr(np, _name, _value)
