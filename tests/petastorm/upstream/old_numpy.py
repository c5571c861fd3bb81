"""Names that NumPy 2 removed, for Petastorm's own tests, in their process and in Spark's workers."""

from __future__ import annotations

import numpy as np

for _name, _value in {"unicode_": np.str_, "string_": np.bytes_, "float": float, "int": int, "object": object}.items():
    if _name not in np.__dict__:
        setattr(np, _name, _value)
