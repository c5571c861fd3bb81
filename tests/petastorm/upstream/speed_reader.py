"""Reads a dataset to its end some times, by stock Petastorm or the drop-in, and prints rows a second and memory as JSON.

python -m tests.petastorm.upstream.speed_reader PACKAGE rows|batches URL POOL CAPACITY PASSES
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import sys
import time
import warnings
from typing import Any

warnings.filterwarnings("ignore")  # those of old libraries about each other


def main() -> None:
    package, kind, url, pool, capacity, passes = sys.argv[1:]
    reader = importlib.import_module(f"{package}.reader")
    loaders = importlib.import_module(f"{package}.pytorch") if kind == "batches" else None
    base = _peak_mib()
    with contextlib.redirect_stdout(io.StringIO()):  # stock prints when a reader ends
        rates = [_rate(reader, loaders, url, pool, int(capacity)) for _ in range(int(passes) + 1)]
    print(
        json.dumps({"rates": rates[1:], "mib": _peak_mib() - base}), flush=True
    )  # the first pass imports what is imported late
    os._exit(0)  # at an ordinary end a thread of the old pyarrow sometimes aborts the process


def _rate(reader: Any, loaders: Any, url: str, pool: str, capacity: int) -> float:
    began, rows = time.perf_counter(), 0
    options = {"reader_pool_type": pool, "workers_count": 2, "shuffle_row_groups": True, "seed": 1}
    if loaders is None:
        with reader.make_reader(url, **options) as source:
            for _ in source:
                rows += 1
    else:
        source = reader.make_batch_reader(url, **options)
        with loaders.BatchedDataLoader(source, batch_size=256, shuffling_queue_capacity=capacity) as batches:
            for batch in batches:
                rows += len(batch["label"])
    return rows / (time.perf_counter() - began)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
