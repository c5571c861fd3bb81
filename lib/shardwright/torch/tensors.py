"""NumPy batches as tensors of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shardwright.reader.columns import Batch

TensorBatch = dict[str, Any]
"""Name -> Tensor; a list where NumPy has an object array (strings, bytes, arrays of several shapes)."""


def tensors(batch: Batch) -> TensorBatch:
    """Tensors that share the memory of the arrays; timestamps, which Torch has not, as int64: microseconds since 1970."""
    return {
        name: values.tolist()
        if values.dtype == object
        else torch.from_numpy(values.view(np.int64) if values.dtype.kind == "M" else values)
        for name, values in batch.items()
    }
