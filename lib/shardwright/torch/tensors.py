"""NumPy batches as tensors of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from shardwright.errors import ConfigError
from shardwright.reader.columns import Batch

TensorBatch = dict[str, Any]
"""Name -> Tensor; a list where NumPy has an object array (strings, bytes, arrays of several shapes)."""


def tensors(batch: Batch) -> TensorBatch:
    """Tensors that share the memory of the arrays; timestamps, which Torch has not, as int64: microseconds since 1970.

    Of a transform's own arrays those that Torch can't share (flipped views, read-only, of the other byte order) are copied.
    Raises ConfigError for values that Torch has no dtype for.
    """
    return {name: _tensor(name, values) for name, values in batch.items()}


def _tensor(name: str, values: npt.NDArray[Any]) -> torch.Tensor | list[Any]:
    if values.dtype.kind in "OSTU":
        return list(values.tolist())
    if values.dtype.kind == "M":
        values = values.astype("datetime64[us]", copy=False).view(np.int64)
    if min(values.strides, default=0) < 0 or not (values.flags.writeable and values.dtype.isnative):
        values = values.astype(values.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(values)
    except TypeError as error:
        problem = f"column {name!r}: PyTorch has no dtype for {values.dtype}; let the transform give another, or leave it out"
        raise ConfigError([problem]) from error
