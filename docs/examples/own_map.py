"""Two functions over samples, for `[[map]]` tables: pixels to features, and a choice of samples.

    [[map]]
    function = "own_map:features"
    options = { bins = 8 }
    drop = ["image"]
    [map.fields]
    histogram = { dtype = "float32", shape = [8] }
    ink = { dtype = "float32" }

    [[map]]
    function = "own_map:choose"
    options = { labels = [0, 1, 2], share = 0.5 }

./spark-submit.sh --py-files docs/examples/own_map.py jobs/prepare.py my.toml

A batch is a dict of arrays, one row a sample, as the reader's batches are. A function returns what it changes and adds. It has
to give a sample the same values whatever other samples are in the batch, since nothing says how batches are cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Batch = dict[str, npt.NDArray[Any]]


def features(batch: Batch, *, bins: int) -> Batch:
    """How dark the pixels of each picture are, and how much ink is in it; a picture without any is refused."""
    pixels = batch["image"].reshape(len(batch["image"]), -1)
    levels = pixels // (256 // bins)
    histogram = np.stack([(levels == level).mean(axis=1) for level in range(bins)], axis=1)
    ink = pixels.sum(axis=1) / 255
    reasons = np.array([None if amount else "an empty picture" for amount in ink], object)
    return {"histogram": histogram.astype(np.float32), "ink": ink.astype(np.float32), "_reject": reasons}


def choose(batch: Batch, keys: npt.NDArray[np.uint8], *, labels: list[int], share: float) -> Batch:
    """The samples of some labels, and of these about a share: drawn by the sample keys, which are as good as random numbers."""
    numbers = np.ascontiguousarray(keys[:, :8]).view("<u8").ravel() / 2.0**64
    return {"_keep": np.isin(batch["label"], labels) & (numbers < share)}
