"""The part of docs/schedulers_results.md that is about Oozie, from what the tests saw."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from tests.benchmarks.document import write_part
from tests.cluster.jars import hadoop_version
from tests.conftest import ROOT
from tests.schedulers.oozie import oozie_version

_PATH = ROOT / "docs" / "schedulers_results.md"
_TEXT = """
A NameNode, two DataNodes, a ResourceManager, two NodeManagers and Oozie's server on one machine. The files are those of
`conf/oozie`, deployed as [docs/oozie.md](oozie.md) says; jobs read 2,000 digits. Each version that was published was read by
`shardwright.reader.verify` afterwards, and has the content_id of a job that ran without Oozie. Logs are Oozie's own (`oozie
job -log`), in short: time, level, node, message.
"""
_WIDTH = 180
_LINE = re.compile(r"^\S+ (\S+),\d+ +(\w+) (\w+):\d+ - .*? ACTION\[(?:[^@\]]*@)?([^\]]*)\] (.*)$")
_JOB = re.compile(r"\b(\d{7})-\d{15}-oozie-\w+-([WCB])\b")
_NOISE = re.compile(
    r"No results found|No Notification URL|\[\*\*\*|user-retry state|No credential properties|Fs Action dont support"
    r"|^Starting action|[Ss]harelib exclude|already exist|for SLA|^libpath|In checkListOfPaths|action produced output"
    r"|^Processing configuration file|Timezone formats|^Unexpected workflow|^E1100|configDefault"
)


@dataclass(frozen=True)
class Record:
    """A scenario, what came of it, and what Oozie logged. `lost`: samples; None where nothing is published."""

    scenario: str
    happened: str
    seconds: float
    lost: int | None
    log: str


def excerpt(log: str, killed: Sequence[str], names: Mapping[str, str]) -> str:
    """The lines of a job's log that tell something, cut to a width, and the messages it was `killed` with; names replaced."""
    kept: dict[str, str] = {}  # the time of what was said first, since a run that waits says the same every two seconds
    for line in log.splitlines():
        found = _LINE.match(line)
        if found is None or _NOISE.search(found[5]):
            continue
        at, level, logger, node, message = found.groups()
        text = _short(f"{level:4} {node or logger}: {message.strip()}", names)
        kept.setdefault(text if len(text) <= _WIDTH else text[:_WIDTH] + "…", at)
    lines = [f"{at} {text}" for text, at in kept.items()]
    return "\n".join([*lines, *(_short(f"killed: {message}", names) for message in killed)])


def _short(text: str, names: Mapping[str, str]) -> str:
    text = _JOB.sub(r"\1-…-\2", text)
    for name, other in names.items():
        text = text.replace(name, other)
    return text


def write_report(records: Sequence[Record], seconds: float) -> None:
    """Write the part. `seconds`: of the whole run, with the start of all daemons."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Oozie {oozie_version()}, Hadoop {hadoop_version()}, Spark {version('pyspark')}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    head = f"""\
# Oozie

`tests/run --schedulers`, {datetime.now(UTC).date()}: {versions}; {machine}. All of it took {seconds:.0f} s.
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
