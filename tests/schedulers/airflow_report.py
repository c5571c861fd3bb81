"""The part of docs/schedulers_results.md that is about Airflow, from what the tests saw."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from tests.benchmarks.document import write_part
from tests.conftest import ROOT

_PATH = ROOT / "docs/schedulers_results.md"
_TEXT = """
Database (SQLite), DAG processor, scheduler (LocalExecutor) and API server on one machine. The DAG is
`conf/airflow/shardwright_prepare.py` with two datasets added to it; jobs read 1,600 digits, on `local[2]` unless something else
is said. Times are from the trigger, or from the fault where there is one. Logs are Airflow's own, without its lines about
itself and without `--conf` and `--py-files`, cut to a width.
"""
_WIDTH = 180
_NOISE = re.compile(
    r"::(end)?group::|DAG bundles loaded|Filling up the DagBag|is deprecated|Worker startup parse|Pushing xcom|Done\. Returned"
    r"|Poking callable"
)
_PRINTED = re.compile(r"^\S+T(\d\d:\d\d:\d\d)\S* +\[(\w+) *\] (.*?) +\[[\w.]+\](?:.*?(reason='[^']*'))?.*$")
"""A line that `airflow dags test` prints."""


@dataclass(frozen=True)
class Record:
    """A scenario, what came of it, and what Airflow logged. `lost`: samples; None where no version is left to read."""

    scenario: str
    happened: str
    seconds: float
    lost: int | None
    log: str


def excerpt(log: str, names: Mapping[str, str]) -> str:
    """The lines of a log that tell something, cut to a width, with these names and this host's replaced."""
    kept = []
    for line in log.splitlines():
        line = _PRINTED.sub(r"\1 \2 \3 \4", line).rstrip()
        line = re.sub(r"--(py-files |conf=)\S+ ", "", line)
        line = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "host", line)
        for name, other in names.items():
            line = line.replace(name, other)
        if not _NOISE.search(line):
            kept.append(line if len(line) <= _WIDTH else line[:_WIDTH] + "…")
    return "\n".join(kept)


def write_report(airflow: str, records: Sequence[Record]) -> None:
    """Write the part. `airflow`: its version."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    head = f"""\
# Airflow

`tests/run --schedulers`, {datetime.now(UTC).date()}: Airflow {airflow}, Spark {version("pyspark")}; {machine}.
{_TEXT}
| scenario | what happened | time | samples lost |
| --- | --- | --- | --- |
"""
    lines = [
        f"| {one.scenario} | {one.happened} | {one.seconds:.0f} s | {'–' if one.lost is None else one.lost} |\n"
        for one in records
    ]
    logs = [f"\n## {one.scenario}\n\n```\n{one.log}\n```\n" for one in records if one.log]
    write_part(_PATH, head + "".join(lines) + "".join(logs))


def of_tasks(printed: str) -> str:
    """What `airflow dags test` printed of tasks."""
    kept = ("unusual_prefix", "DAG TEST", "Skipping task", "Rescheduling")
    return "\n".join(line for line in printed.splitlines() if any(word in line for word in kept))
