"""A real HDFS for the benchmarks: that of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.cluster.hdfs import Hdfs


@contextmanager
def running_hdfs(folder: Path, settings: Mapping[str, object] | None = None) -> Iterator[Hdfs]:
    """It runs, and this process and what it starts are its clients; `settings` add to hdfs-site.xml."""
    cluster = Hdfs(folder, hdfs=settings)
    with mock.patch.dict(os.environ, cluster.environment):
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
