"""Who made a version, when, with what."""

from __future__ import annotations

import getpass
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import shardwright
from shardwright.format.manifest import Provenance

_SOFTWARE = ("numpy", "pyarrow", "pyspark", "xxhash")


def provenance(configuration: dict[str, Any], seconds: Mapping[str, float]) -> Provenance:
    """The provenance of what this process publishes now."""
    software = {name: version(name) for name in _SOFTWARE}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        user=_user(),
        host=socket.gethostname(),
        software={"shardwright": shardwright.__version__, "python": platform.python_version(), **software},
        configuration=configuration,
        seconds=dict(seconds),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user id without a name
