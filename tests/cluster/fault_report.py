"""docs/hadoop_faults.md, from what the fault tests saw."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

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


def write_report(records: Sequence[Record], undisturbed: float) -> None:
    """Write the table. `undisturbed`: seconds of the same job without a fault."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Hadoop {hadoop_version()}, Spark {version('pyspark')}, hdfs-native {version('hdfs-native')}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    head = f"""\
# Faults on Hadoop

`tests/run --cluster`, {datetime.now(UTC).date()}: {versions}; {machine}, all daemons on one machine.
A NameNode, three DataNodes (replication 2; one counts as dead after 12 s), a ResourceManager and two NodeManagers. A prepare
job on YARN with two executors reads 2,000 digits from HDFS and gives a dataset on HDFS its second version: {undisturbed:.0f} s
without a fault.

Checked each time: both versions verify; the second has the content of an undisturbed run's, so every part has the same
sha256; no file is there that manifest and index do not name. Seconds are from the fault until the pass that it met was done,
or until the version stood where the job had to be started again.

| fault | what happened | time to recover | samples lost | stray bytes published |
| --- | --- | --- | --- | --- |
"""
    lines = [f"| {one.fault} | {one.happened} | {one.seconds:.0f} s | {one.lost} | {one.stray} |\n" for one in records]
    _PATH.write_text(head + "".join(lines))
