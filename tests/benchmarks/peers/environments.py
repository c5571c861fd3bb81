"""The environments of the peers: one for each file in requirements/, made on first use in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.benchmarks.contenders import petastorm_python, say

_REQUIREMENTS = Path(__file__).with_name("requirements")
_PETASTORM = "petastorm"
OURS = "shardwright"


@cache
def python_of(name: str) -> str:
    """The Python of the environment `name`, which is made first where there is none yet.

    `shardwright` is this Python itself; `petastorm` the environment that the tests compare with.
    """
    if name == OURS:
        return sys.executable
    return petastorm_python() if name == _PETASTORM else _made(name)


def _made(name: str) -> str:
    """One builder at a time; an environment that is complete is never changed again."""
    pins = _REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardwright" / f"peer-{name}-{digest}"
    python, complete = folder / "bin/python", folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            say(f"making the environment of {name}, once, in {folder}")
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
            _run(sys.executable, "-m", "venv", str(folder))
            _install(python, pins)
            complete.touch()
    return str(python)


def _install(python: Path, pins: Path) -> None:
    """By uv where this Python's environment has it: its cache shares the files of equal packages, PyTorch's gigabytes first."""
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        index = subprocess.run([python, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
        if index.returncode == 0:  # the same as pip's
            os.environ.setdefault("UV_DEFAULT_INDEX", index.stdout.strip())
        _run(str(uv), "pip", "install", "--quiet", "--python", str(python), "-r", str(pins))
    else:
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)
