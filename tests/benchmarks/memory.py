"""Memory: does a Python worker of the executor need more where there is more to prepare?"""

from __future__ import annotations

import math
import shutil

from tests.benchmarks.contenders import Settings, forget, ours, say, start
from tests.benchmarks.idx import into_page_cache, write_idx
from tests.benchmarks.measure import Run
from tests.benchmarks.table import spread, table

_GIGABYTES = (1, 2, 4)
_SHAPE = (224, 224, 3)
_TEXT = """## Memory of an executor

shardwright alone prepares arrays of 224x224x3, `local[2]`, {repeats} times each; of its two Python workers the larger is shown.
*private* is what it can't give back; *resident* also counts pages of mapped files (the input, staged samples), which the kernel
drops when memory runs short. The last two columns: compared with the smallest input.
"""


def run(settings: Settings) -> str:
    """The Markdown of the whole group."""
    runs: dict[int, list[Run]] = {}
    for gigabytes in _GIGABYTES:
        rows = settings.scaled(gigabytes * 10**9 // math.prod(_SHAPE))
        say(f"memory: {rows:,} arrays of 224x224x3")
        source = write_idx(settings.work / "input", rows, _SHAPE)
        into_page_cache(source)
        runs[rows] = []
        for repeat in range(settings.repeats):
            measured, _ = start(ours(), source, settings.work)
            forget(measured)
            runs[rows].append(measured.run)
            peaks = measured.run.peaks
            private, resident = peaks.worker_private / 1e6, peaks.worker_resident / 1e6
            say(f"  {repeat + 1}/{settings.repeats} worker: private {private:,.0f} MB, resident {resident:,.0f} MB")
        shutil.rmtree(source)
    return f"{_TEXT.format(repeats=settings.repeats)}\n{_table(runs)}"


def _table(runs: dict[int, list[Run]]) -> str:
    head = (
        "input", "worker private, MB", "worker resident, MB", "all processes private, MB", "whole, s", "private /", "resident /"
    )  # fmt: skip
    smallest = next(iter(runs.values()))
    lines = []
    for rows, found in runs.items():
        pairs = list(zip([run.peaks for run in found], [run.peaks for run in smallest], strict=True))
        lines.append(
            (
                f"{rows * math.prod(_SHAPE) / 1e9:.2f} GB",
                spread((run.peaks.worker_private / 1e6 for run in found), 0),
                spread((run.peaks.worker_resident / 1e6 for run in found), 0),
                spread((run.peaks.private / 1e6 for run in found), 0),
                spread(run.seconds for run in found),
                spread((mine.worker_private / max(first.worker_private, 1) for mine, first in pairs), 2),
                spread((mine.worker_resident / max(first.worker_resident, 1) for mine, first in pairs), 2),
            )
        )
    return table(head, lines)
