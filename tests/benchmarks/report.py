"""What a contender, a process of its own, tells the benchmark: when it passed which point, and numbers. Needs nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

VARIABLE = "SHARDWRIGHT_BENCHMARK_REPORT"
"""The environment variable that names the file to write."""


def report(marks: dict[str, float], **found: Any) -> None:
    """Leave `marks`, readings of `now`, and what was found; the last thing that a contender does."""
    Path(os.environ[VARIABLE]).write_text(json.dumps({"marks": marks, "found": found}), encoding="utf-8")


def now() -> float:
    """Seconds on a clock that all processes of this machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)
