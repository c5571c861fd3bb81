"""What a job takes along to a cluster: Python packages and Spark as archives that are kept on HDFS, and this package as a zip.

Archives are named by all that decides what is in them and never changed: the first start uploads them, later ones find them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
import tarfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

import pyspark

from shardwright.errors import StorageError
from shardwright.storage import open_writable
from shardwright.storage.base import WritableStorage

_LAYOUT = "1"
"""Counts up when other things of an environment are packed."""
_INSTALLERS = {"pip", "setuptools", "uv", "pkg_resources", "_distutils_hack"}
_YEAR_1980 = (1980, 1, 1, 0, 0, 0)
"""The time of files in a zip whose bytes shall depend on nothing but its content."""


class Archives:
    """The directory on HDFS where archives are kept."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._storage = open_writable(url)
        self._say = say

    def environment(self) -> str:
        """The URL of the packages of the environment that this process runs in: a .tar.gz of its site-packages.

        Named by the locked requirements, the Python and the machine. Raises StorageError where this is no such environment.
        """
        return self._kept(environment_name(Path(sys.prefix)), "the Python packages", _pack_environment)

    def spark(self) -> str:
        """The URL of the jars of the installed pyspark: a .zip with them at its root."""
        return self._kept(f"spark-{version('pyspark')}.zip", "Spark", _pack_spark)

    def _kept(self, name: str, what: str, pack: Callable[[Path], None]) -> str:
        storage = self._storage
        if not storage.exists(name):
            began = time.monotonic()
            self._say(f"uploading {what}, once: {storage.url}/{name}")
            storage.make_directory()
            with _uploaded(storage, name) as path:
                pack(path)
            self._say(f"uploaded {what}: {storage.size(name) / 1e6:,.0f} MB in {time.monotonic() - began:.0f} s")
        return f"{storage.url}/{name}"


@contextmanager
def _uploaded(storage: WritableStorage, name: str) -> Iterator[Path]:
    """A path to write to, whose file gets its name in one step; where another start was first, its file stays."""
    temporary = f".{name}.{uuid.uuid4().hex}"
    with storage.new_file(temporary) as path:
        yield path
    try:
        storage.rename(temporary, name)
    except FileExistsError:
        storage.delete(temporary)


def environment_name(prefix: Path) -> str:
    """environment-py3.11-linux-x86_64-<hash>.tar.gz, for the environment at `prefix`."""
    try:
        requirements = (prefix / "requirements.txt").read_bytes()  # the locked versions, as conf/environment.sh installed them
    except FileNotFoundError as error:
        raise StorageError(
            f"expected an environment that spark-submit.sh made, found none in {prefix}: start jobs by ./spark-submit.sh"
        ) from error
    python = "py{}.{}".format(*sys.version_info[:2])
    digest = hashlib.sha256(requirements + _LAYOUT.encode()).hexdigest()[:12]
    return f"environment-{python}-{sys.platform}-{platform.machine()}-{digest}.tar.gz"


def _pack_environment(path: Path) -> None:
    """Packages alone, with their metadata: a virtual environment's own Python and scripts name places on this machine.

    Of pyspark only that: Spark ships its Python part itself. Times are kept, so that compiled bytecode stays valid.
    """
    root = Path(sysconfig.get_paths()["purelib"])
    with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(root.iterdir()):
            if entry.name != "pyspark" and entry.name.partition("-")[0] not in _INSTALLERS:
                archive.add(entry, entry.name, filter=_of_use)


def _of_use(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The entry, owned by nobody in particular; None for the packages' own tests."""
    if "tests" in Path(entry.name).parts:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = int(entry.mtime)
    return entry


def spark_home() -> Path:
    """Where the Spark that pyspark brings lies."""
    return Path(pyspark.__path__[0])


def _pack_spark(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # jars are compressed already
        for jar in sorted((spark_home() / "jars").glob("*.jar")):
            archive.write(jar, jar.name)


def code_zip(directory: Path) -> Path:
    """This package as a zip for --py-files, made in `directory` where it is not there yet; named by its content."""
    with as_file(files("shardwright")) as package:
        sources = sorted(path for path in package.rglob("*") if path.is_file() and path.suffix in (".py", ".typed"))
        contents = [(f"shardwright/{path.relative_to(package).as_posix()}", path.read_bytes()) for path in sources]
    digest = hashlib.sha256()
    for name, data in contents:
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    made = directory / f"shardwright-{digest.hexdigest()[:12]}.zip"
    if not made.exists():
        directory.mkdir(parents=True, exist_ok=True)
        temporary = made.with_name(f".{made.name}.{os.getpid()}")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents:
                archive.writestr(zipfile.ZipInfo(name, _YEAR_1980), data, zipfile.ZIP_DEFLATED)
        temporary.replace(made)
    return made
