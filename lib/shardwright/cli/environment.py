"""What `doctor` finds out about this machine: Python, packages, Java, Spark, Hadoop, cores, memory, disk, encoding."""

from __future__ import annotations

import locale
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shardwright.cli.hadoop import hadoop
from shardwright.cli.output import Finding, size

LOWEST_PYTHON = (3, 11)
LOWEST_JAVA = 17
PACKAGES = {
    "fsspec": "2024.6",
    "numpy": "2.0",
    "pyarrow": "23",
    "pydantic": "2.9",
    "rich": "13.7",
    "typer": "0.15",
    "xxhash": "3.4",
}
"""Lowest version of each package that is always needed."""
EXTRAS = {
    "spark": {"pandas": "2.2", "pyspark": "4.1"},
    "images": {"imagecodecs": "2025.3.30", "opencv-python-headless": "4.10", "simplejpeg": "1.8"},
    "pandas": {"pandas": "2.2"},
    "avro": {"fastavro": "1.9"},
    "hdfs": {"hdfs-native": "0.14.7", "requests": "2.32"},
    "tfrecord": {"crc32c": "2.3", "protobuf": "5.26"},
    "http": {"aiohttp": "3.10"},
    "s3": {"s3fs": "2024.6"},
    "metrics": {"prometheus-client": "0.21"},
    "torch": {"torch": "2.4"},
    "tensorflow": {"tensorflow": "2.18"},
    "jax": {"jax": "0.5.3"},
}
"""Lowest version of each package of an extra."""
_WORKERS_IMPORT = "numpy, pandas, pyarrow, xxhash"
_LOW_DISK = 2 * 2**30
_LOW_MEMORY = 2 * 2**30
_SECONDS = 30


def environment() -> Iterator[Finding]:
    """Everything that a job or a reader on this machine depends on."""
    yield _python()
    for name, lowest in PACKAGES.items():
        yield _package(name, lowest, "shardwright")
    for extra, packages in EXTRAS.items():
        if any(_installed(name) for name in packages):
            yield from (_package(name, lowest, f"shardwright[{extra}]") for name, lowest in packages.items())
        else:
            yield Finding("ok", extra, "not installed", f"where it is needed: pip install 'shardwright[{extra}]'")
    if _installed("pyspark"):
        yield _java()
        yield from _spark_variables()
    yield from hadoop()
    yield Finding("ok", "cores", str(_cores()))
    yield _memory()
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    yield _disk("cache", Path(cache).expanduser())
    yield _temporary_files()
    yield _encoding()


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < LOWEST_PYTHON:
        lowest = ".".join(map(str, LOWEST_PYTHON))
        return Finding("problem", "Python", found, f"expected {lowest} or later: install it, and name it in SHARDWRIGHT_PYTHON")
    return Finding("ok", "Python", found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _package(name: str, lowest: str, owner: str) -> Finding:
    found = _installed(name)
    if found is None:
        return Finding("problem", name, "not installed", f"pip install '{owner}'")
    if _numbers(found) < _numbers(lowest):
        return Finding("problem", name, found, f"expected {lowest} or later: pip install '{name}>={lowest}'")
    return Finding("ok", name, found)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3]]


def _java() -> Finding:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    advice = f"Spark needs Java {LOWEST_JAVA} or later: install it, and set JAVA_HOME"
    if java is None:
        return Finding("problem", "Java", "none on the PATH, and JAVA_HOME is not set", advice)
    told = _output([java, "-version"])
    number = re.search(r'version "(?:1\.)?(\d+)', told or "")
    if told is None or number is None:
        return Finding("problem", "Java", f"{java} does not run", advice)
    return Finding("ok" if int(number[1]) >= LOWEST_JAVA else "problem", "Java", f"{number[1]} ({java})",
                   "" if int(number[1]) >= LOWEST_JAVA else advice)  # fmt: skip


def _output(command: list[str]) -> str | None:
    """What a program says, on both streams; None when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603 - the user's own
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout + done.stderr


def _spark_variables() -> Iterator[Finding]:
    """SPARK_HOME and PYSPARK_PYTHON, which make Spark take other code than what is installed here."""
    home, own = os.environ.get("SPARK_HOME"), _installed("pyspark") or ""
    jars = sorted(Path(home, "jars").glob("spark-core_*.jar")) if home else []
    other = re.search(r"-(\d+\.\d+\.\d+)", jars[0].name) if jars else None
    if home is None:
        yield Finding("ok", "SPARK_HOME", "not set: Spark comes with pyspark")
    elif other is None:
        yield Finding("problem", "SPARK_HOME", f"{home} holds no Spark", "unset it")
    elif _numbers(other[1])[:2] != _numbers(own)[:2]:
        yield Finding("problem", "SPARK_HOME", f"{home} is Spark {other[1]}, pyspark is {own}", "unset it, or install the same")
    else:
        yield Finding("ok", "SPARK_HOME", f"{home}, Spark {other[1]}")
    python = os.environ.get("PYSPARK_PYTHON")
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python is None:
        advice = "spark-submit.sh sets it; else workers take the python3 on the PATH: set it to this Python"
        yield Finding("ok" if _same_python() else "warning", "PYSPARK_PYTHON", "not set", "" if _same_python() else advice)
        return
    told = (_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) or "").strip()
    advice = f"workers and driver need the same Python ({mine}) and packages: set it to {sys.executable}"
    found = f"{python} is Python {told}" if told else f"{python} does not run"
    fit = told == mine
    if fit and _output([python, "-c", f"import {_WORKERS_IMPORT}"]) is None:
        fit, found = False, f"{found}, and can't import {_WORKERS_IMPORT}"
    yield Finding("ok" if fit else "problem", "PYSPARK_PYTHON", found, "" if fit else advice)


def _same_python() -> bool:
    """Whether the python3 that workers take is this one: of this environment too, whose python links to another."""
    other, mine = shutil.which("python3"), Path(sys.executable)
    return (
        other is not None and Path(other).resolve() == mine.resolve() and Path(other).parent.resolve() == mine.parent.resolve()
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> Finding:
    """This machine's, or what its container may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        text = path.read_text().strip() if path.exists() else ""
        limits += [int(text)] if text.isdigit() else []
    found = min(limits)
    low = found < _LOW_MEMORY
    return Finding("warning" if low else "ok", "memory", size(found), "Spark alone wants about 2 GiB" if low else "")


def _disk(what: str, path: Path) -> Finding:
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    low = free < _LOW_DISK
    return Finding(
        "warning" if low else "ok", f"disk for {what}", f"{size(free)} free at {path}", "free some space" if low else ""
    )


def _temporary_files() -> Finding:
    try:
        return _disk("temporary files", Path((os.environ.get("SPARK_LOCAL_DIRS") or tempfile.gettempdir()).split(",")[0]))
    except FileNotFoundError as error:  # Python has tried to write in each that it knows
        return Finding(
            "problem", "disk for temporary files", str(error), "free some space, or set TMPDIR to a directory with some"
        )


def _encoding() -> Finding:
    found = {locale.getpreferredencoding(False), sys.getfilesystemencoding()}
    good = all(name.lower().replace("-", "") == "utf8" for name in found)
    advice = "" if good else "names of files may not survive: set LANG=C.UTF-8 (or PYTHONUTF8=1)"
    return Finding("ok" if good else "warning", "encoding", ", ".join(sorted(found)), advice)
