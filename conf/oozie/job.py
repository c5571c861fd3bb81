#!/usr/bin/env python3
"""Runs a job of shardwright in the container of an Oozie shell action, and tells Oozie what came of it.

job.py 'EXIT CODES' 'WHAT SPARK-SUBMIT TAKES' 'JOB.py WHAT THE JOB TAKES'

The action brings `shardwright`, the unpacked archive of the project. All that the job says goes to standard error, so to the
container's log. Standard output is what <capture-output/> takes, properties: exit_code, and of the job's last line, which is
JSON, the status, version, content_id or message.

With one of EXIT CODES the action ends well, and the workflow decides by exit_code what comes next; with any other it fails.
Oozie keeps neither the code nor the output of an action that fails.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

TOLD = ("status", "version", "content_id", "message")
LONGEST = 300
"""Characters of a value: Oozie takes 2,048 bytes from an action, and escaped they may be six times as many."""


def main() -> int:
    """Run the job, and print its result as a properties file."""
    codes, spark, job = map(shlex.split, sys.argv[1:])
    name, *arguments = job
    command = ["bash", "shardwright/spark-submit.sh", *spark, f"shardwright/jobs/{name}", *arguments, "--json"]
    last = ""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, encoding="utf-8", errors="replace") as running:  # noqa: S603 - the operator's
        for line in running.stdout or ():
            sys.stderr.write(line)
            last = line
    try:
        said = json.loads(last)
    except ValueError:  # it did not come to its last line: why stands in the log
        said = {}
    lines = [f"exit_code={running.returncode}"]
    lines += [f"{key}={json.dumps(said[key][:LONGEST])[1:-1]}" for key in TOLD if key in said]  # escaped as properties are
    print("\n".join(lines))  # noqa: T201
    return 0 if str(running.returncode) in codes else 1


if __name__ == "__main__":
    sys.exit(main())
