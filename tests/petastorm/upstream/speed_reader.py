"""Reads a dataset to its end some times, by stock Petastorm or the drop-in, and reports rows a second of each pass.

python -m tests.petastorm.upstream.speed_reader PACKAGE rows|batches URL POOL CAPACITY PASSES
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from tests.benchmarks.report import report

warnings.filterwarnings("ignore")  # those of old libraries about each other


def main() -> None:
    package, kind, url, pool, capacity, passes = sys.argv[1:]
    reader = importlib.import_module(f"{package}.reader")
    loaders = importlib.import_module(f"{package}.pytorch") if kind == "batches" else None
    imports = _private_bytes()
    with contextlib.redirect_stdout(io.StringIO()):  # stock prints when a reader ends
        read = [_pass(reader, loaders, url, pool, int(capacity)) for _ in range(int(passes) + 1)]
    rates = [rows / seconds for rows, seconds in read[1:]]  # the first pass imports what is imported late
    report({}, rates=rates, rows=[rows for rows, _ in read], imports_bytes=imports)
    os._exit(0)  # at an ordinary end a thread of the old pyarrow sometimes aborts the process


def _pass(reader: Any, loaders: Any, url: str, pool: str, capacity: int) -> tuple[int, float]:
    """Rows, and seconds."""
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
    return rows, time.perf_counter() - began


def _private_bytes() -> int:
    found = re.search(r"^RssAnon:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found.group(1)) * 1024


if __name__ == "__main__":
    main()
