"""What `doctor` finds out about a Hadoop cluster: its configuration, whose name is used there, and whether its HDFS answers."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from shardwright.cli.output import Finding
from shardwright.errors import MissingDependencyError, StorageError
from shardwright.storage import open_writable
from shardwright.storage.hadoop import configuration, configuration_directory, is_secure

_CONF = "HADOOP_CONF_DIR"


def hadoop() -> Iterator[Finding]:
    """Whether jobs can run on YARN from here, and read and write hdfs://. A machine without a cluster is fit as it is."""
    directory = configuration_directory()
    if directory is None:
        yield Finding("ok", _CONF, "not set", "to use YARN and HDFS: set it to the directory of the cluster's core-site.xml")
        return
    missing = [name for name in ("core-site.xml", "hdfs-site.xml", "yarn-site.xml") if not (directory / name).is_file()]
    if "core-site.xml" in missing:
        yield Finding("problem", _CONF, f"{directory} has no core-site.xml", "set it to that of the cluster, or unset it")
        return
    advice = f"{', '.join(missing)}: copy it from the cluster, to use its YARN or nameservices" if missing else ""
    yield Finding("warning" if missing else "ok", _CONF, str(directory), advice)
    try:
        settings = configuration()
    except StorageError as error:
        yield Finding("problem", _CONF, str(error), "copy it from the cluster once more")
        return
    yield _user(kerberos=is_secure(settings))
    yield _file_system(settings.get("fs.defaultFS", "file:///"))


def _user(*, kerberos: bool) -> Finding:
    if kerberos:
        return Finding("ok", "Hadoop's user", "that of the Kerberos ticket (klist shows it)")
    named = os.environ.get("HADOOP_USER_NAME")
    return Finding("ok", "Hadoop's user", f"{named} (HADOOP_USER_NAME)" if named else f"{getpass.getuser()} (this account)")


def _file_system(default: str) -> Finding:
    """Whether the default file system answers: an HDFS that does not is an error within seconds."""
    if urlsplit(default).scheme != "hdfs":
        advice = "" if "://" in default and not default.startswith("file:") else "name URLs in full: hdfs://host:port/…"
        return Finding("ok" if not advice else "warning", "fs.defaultFS", f"{default}, not HDFS", advice)
    try:
        open_writable(default).exists()
    except (StorageError, MissingDependencyError, RuntimeError) as error:
        return Finding(
            "problem", "fs.defaultFS", f"{default}: {' '.join(str(error).split())}", "mend it, or unset HADOOP_CONF_DIR"
        )
    return Finding("ok", "fs.defaultFS", f"{default} answers")
