"""The jars of Hadoop's daemons: fetched by Maven once, and kept outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
SECONDS = 900
ADVICE = """Maven fetches the jars of Hadoop's daemons, and there is no `mvn` on the PATH. Install it:
  Debian, Ubuntu   apt install maven
  RHEL, Fedora     dnf install maven
  macOS            brew install maven"""


def hadoop_version() -> str:
    """The version of the daemons."""
    return ET.fromstring(POM.read_text()).findtext("{*}properties/{*}hadoop.version", "")


def hadoop_jars() -> Path:
    """The directory of the jars, named by what decides its content. One that is complete is never changed again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "shardwright")
    folder = cache / f"hadoop-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"
    complete = folder / "complete"
    if complete.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:  # the lock ends with the process, so a killed fetch leaves none behind
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(folder)
            complete.touch()
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeError(ADVICE)
    log = Path(f"{folder}.log")
    command = [
        maven,
        "-B",
        "-f",
        str(POM),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={folder}",
    ]
    with log.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=SECONDS)
    if done.returncode:
        told = "\n".join(line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line)[:3000]
        raise RuntimeError(f"Maven could not fetch the jars of Hadoop's daemons; all that it said is in {log}:\n{told}")
