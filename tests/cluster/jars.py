"""The jars of daemons: fetched by Maven once, and kept outside the checkout."""

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
ADVICE = """Maven fetches the jars of the test clusters' daemons, and there is no `mvn` on the PATH. Install it:
  Debian, Ubuntu   apt install maven
  RHEL, Fedora     dnf install maven
  macOS            brew install maven"""


def hadoop_version() -> str:
    """The version of the daemons."""
    return ET.fromstring(POM.read_text()).findtext("{*}properties/{*}hadoop.version", "")


def hadoop_jars() -> Path:
    """The directory of the jars of Hadoop's daemons."""
    return jars_of("hadoop", POM)


def jars_of(name: str, pom: Path) -> Path:
    """The directory of all that `pom` depends on, named by what decides its content. A complete one is never changed again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "shardwright")
    folder = cache / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}"
    complete = folder / "complete"
    if complete.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:  # the lock ends with the process, so a killed fetch leaves none behind
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(name, pom, folder)
            complete.touch()
    return folder


def _fetch(name: str, pom: Path, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeError(ADVICE)
    log = Path(f"{folder}.log")
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    with log.open("wb") as output:
        done = subprocess.run(
            [maven, "-B", "-f", str(pom), *copy],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    if done.returncode:
        told = "\n".join(line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line)[:3000]
        raise RuntimeError(f"Maven could not fetch the jars of {name}; all that it said is in {log}:\n{told}")
