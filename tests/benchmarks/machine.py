"""What was measured, and on what: the head of the document."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import shardwright

_OURS = ("numpy", "pyarrow", "pyspark", "fsspec", "xxhash")
_THEIRS = ("petastorm", "numpy", "pyarrow", "pyspark")
_ASK = """import json, platform, sys
from importlib.metadata import version
print(json.dumps([platform.python_version(), *map(version, sys.argv[1:])]))
"""
_TEXT = """# Benchmarks

Medians, with the smallest and the largest value in parentheses. Compare what stands in one table, which was measured in turn in
one run, and nothing else: seconds belong to this machine, at that hour.
"""


def head(command: str, petastorm_python: str | None) -> str:
    """Date, command, versions, machine, as Markdown."""
    ours = ", ".join(f"{name} {version(name)}" for name in _OURS)
    lines = [
        _TEXT,
        f"* Date: {today()}",
        f"* Command: `{command}`",
        f"* Versions: shardwright {shardwright.__version__}, Python {platform.python_version()}, {ours}, Java {_java()}",
    ]
    if petastorm_python:
        lines.append(f"* Stock Petastorm's own environment: {versions(petastorm_python, _THEIRS)}")
    return "\n".join([*lines, f"* Machine: {machine()}", ""])


def today() -> str:
    """The date."""
    return datetime.now(UTC).date().isoformat()


def versions(python: str, packages: Sequence[str]) -> str:
    """Of another environment: of its Python, and of these packages."""
    asked = subprocess.run([python, "-c", _ASK, *packages], stdout=subprocess.PIPE, text=True, check=True)
    return ", ".join(f"{name} {number}" for name, number in zip(("Python", *packages), json.loads(asked.stdout), strict=True))


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    shown = subprocess.run([f"{home}/bin/java" if home else "java", "-version"], capture_output=True, text=True, check=True)
    found = re.search(r'version "([^"]+)"', shown.stderr)
    return found.group(1) if found else "of unknown version"


def machine() -> str:
    """Its processor, memory and kernel."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cpu.group(1) if cpu else platform.machine()}, {cores} cores, {memory:.0f} GiB, {sys.platform} {platform.release()}"
    )
