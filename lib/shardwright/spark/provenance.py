"""Who made a version, when, with what, in which job."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pyspark import SparkContext

import shardwright
from shardwright.format.manifest import Provenance

_SOFTWARE = ("numpy", "pyarrow", "pyspark", "xxhash")


def provenance(context: SparkContext, configuration: dict[str, Any], seconds: Mapping[str, float]) -> Provenance:
    """The provenance of what the job of `context` publishes now."""
    software = {name: version(name) for name in _SOFTWARE}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        user=context.sparkUser(),  # who submitted it: a driver in a container runs by another account
        host=socket.gethostname(),
        software={"shardwright": shardwright.__version__, "python": platform.python_version(), **software},
        configuration=configuration,
        seconds=dict(seconds),
        job={
            "application": str(context.applicationId),
            "deploy_mode": str(context.getConf().get("spark.submit.deployMode", "client")),
            "master": str(context.master),
        },
    )
