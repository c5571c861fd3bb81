"""What Spark's client for YARN logs while a job runs there, told in a few lines; all else on standard error is passed on.

The client logs a page at each change of state, by which a person who waits finds neither the application nor its output.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator

_CLIENT = re.compile(r"\d\d:\d\d:\d\d INFO Client: (.*)")
_REPORT = re.compile(r"Application report for (application_\w+) \(state: (\w+)\)")
_DETAIL = re.compile(r"\t (tracking URL|queue|final status|user): (.*)")
_LONG = re.compile(
    r"\d\d:\d\d:\d\d ERROR Client: Application diagnostics message: "
    r'|Exception in thread "main" org.apache.spark.SparkException: Application application_\w+ '
)
"""What begins pages of Java's traces and of the end of a container's log, which say nothing of the job; in cluster mode nothing
else comes after it."""


def told(lines: Iterable[str], *, cluster: bool) -> Iterator[str]:
    """The lines of spark-submit's standard error with the client's in short; `cluster`: the driver's output is elsewhere."""
    application = state = ""
    details: dict[str, str] = {}
    report = long = False
    for line in lines:
        if client := _CLIENT.match(line):
            report, long = not client[1], False  # an empty message, then details on lines of their own
            if (now := _REPORT.match(client[1])) and now[2] != state:
                application, state = now[1], now[2]
                if state == "RUNNING":
                    yield f"shardwright: {application} runs\n"
        elif report:
            if detail := _DETAIL.match(line):
                details[detail[1]] = detail[2].strip()
                report = detail[1] != "user"  # the last
            if not report and state == "ACCEPTED":
                yield f"shardwright: {application} waits in queue {details['queue']}; watch it: {details['tracking URL']}\n"
        elif cluster and _LONG.match(line):
            if not long and not line.startswith("Exception"):
                yield line
            long = True
        elif not long:
            yield line
    if application and cluster:
        status = details.get("final status", "UNDEFINED")
        how = {"UNDEFINED": "goes on without being watched", "SUCCEEDED": "is done"}.get(status, f"ended as {status}")
        yield f"shardwright: {application} {how}; what it printed: yarn logs -applicationId {application} -log_files stdout\n"


def tell_from_here_on(*, cluster: bool) -> None:
    """Let a process of its own write what `told` makes of this process's standard error, also after an exec."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(write)
        with open(read, errors="replace", newline="\n") as lines:
            for line in told(lines, cluster=cluster):
                sys.stderr.write(line)
                sys.stderr.flush()
        os._exit(0)
    os.close(read)
    os.dup2(write, 2)
    os.close(write)
