"""Environments of other software: one for each file of pinned requirements, made on first use in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


def make_environment(name: str, pins: Path) -> Path:
    """The Python of the environment `name`, which is made first where there is none for these `pins` yet.

    One builder at a time; an environment that is complete is never changed again.
    """
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardwright" / f"{name}-{digest}"
    python, complete = folder / "bin/python", folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(f"making the environment {name}, once, in {folder}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
            _run(sys.executable, "-m", "venv", str(folder))
            _install(python, pins)
            complete.touch()
    return python


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
