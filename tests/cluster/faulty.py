"""A function for [[map]] that waits, dawdles or dies as files in a directory ask for. It travels by --py-files on its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

FOLDER = "SHARDWRIGHT_TEST_FAULTS"
"""The variable that names the directory, on one machine for all: driver, containers and test."""

HOLD, SLOW, DIE = "hold", "slow", "die"
"""Files that ask for it: all tasks wait while it exists; the first attempt of task 0 does; two attempts of it die."""

BEGUN = "begun"
"""The file that a task leaves when it has begun."""


def disturb(samples: dict[str, Any]) -> dict[str, Any]:
    """Changes nothing."""
    from pyspark import TaskContext

    folder, task = os.environ.get(FOLDER), TaskContext.get()
    if folder and task:
        asked = Path(folder)
        (asked / BEGUN).touch()
        first = task.partitionId() == 0
        if first and task.attemptNumber() < 2 and (asked / DIE).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        while (asked / HOLD).exists() or (first and task.attemptNumber() == 0 and (asked / SLOW).exists()):
            time.sleep(0.05)
    return {}
