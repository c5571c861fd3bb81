"""Real Hadoop for schedulers, started by those tests that ask for it."""

from __future__ import annotations

from tests.cluster.conftest import hdfs, yarn

__all__ = ["hdfs", "yarn"]
