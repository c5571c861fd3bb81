"""A pytest plugin that notes what happens to each test at once, so that a process that aborts or hangs hides none of them.

Of the file that SHARDWRIGHT_RECORD names, each line is a JSON list: ["collected", id …] | ["broken", file, reason] |
["began", id] | ["ended", id, passed | failed | skipped, reason]. Tests that have begun there already are not run again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

VARIABLE = "SHARDWRIGHT_RECORD"
_REASON_CHARACTERS = 300


def read(record: Path) -> list[list[str]]:
    """The lines; of one that was cut off in the middle, nothing."""
    lines = record.read_text().splitlines(keepends=True) if record.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _note(*line: str) -> None:
    with open(os.environ[VARIABLE], "a") as out:
        out.write(json.dumps(line) + "\n")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _note("broken", report.nodeid, _short(report.longreprtext.strip().splitlines()[-1]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _note("collected", *(item.nodeid for item in items))
    begun = {line[1] for line in read(Path(os.environ[VARIABLE])) if line[0] == "began"}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in begun])
    items[:] = [item for item in items if item.nodeid not in begun]


def pytest_runtest_logstart(nodeid: str) -> None:
    _note("began", nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Of set-up, call and end, each: that of the call where all went well, else every one that did not."""
    if report.when == "call" or not report.passed:
        said = report.longrepr[-1] if isinstance(report.longrepr, tuple) else _message(report)
        _note("ended", report.nodeid, report.outcome, _short(said))


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else report.longreprtext


def _short(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARACTERS]
