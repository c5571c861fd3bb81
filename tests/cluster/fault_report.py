"""docs/hadoop_faults.md, from what the fault tests saw."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from tests.benchmarks.document import write_part
from tests.cluster.jars import hadoop_version
from tests.conftest import ROOT

_PATH = ROOT / "docs" / "hadoop_faults.md"


@dataclass(frozen=True)
class Record:
    """A fault, and what came of it."""

    fault: str
    happened: str
    seconds: float
    lost: int
    stray: int


def write_report(title: str, text: str, records: Sequence[Record], undisturbed: float) -> None:
    """Write the part with this title. `undisturbed`: seconds of the same job without a fault."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Hadoop {hadoop_version()}, Spark {version('pyspark')}, hdfs-native {version('hdfs-native')}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    head = f"""\
{title}

`tests/run --cluster`, {datetime.now(UTC).date()}: {versions}; {machine}, all daemons on one machine. The job takes
{undisturbed:.0f} s without a fault.
{text}
| fault | what happened | time to recover | samples lost | stray bytes published |
| --- | --- | --- | --- | --- |
"""
    lines = [f"| {one.fault} | {one.happened} | {one.seconds:.0f} s | {one.lost} | {one.stray} |\n" for one in records]
    write_part(_PATH, head + "".join(lines))
