"""Real Hadoop daemons for the tests of this folder. All but tests marked `smoke` run with `./tests/run --cluster` only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.cluster.hdfs import Hdfs
from tests.cluster.yarn import Yarn

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE) and item.get_closest_marker("smoke") is None:
            item.add_marker(pytest.mark.cluster)


H = TypeVar("H", bound=Hdfs)


@contextmanager
def started(cluster: H, request: pytest.FixtureRequest) -> Iterator[H]:
    """The cluster, started, and its environment in this process. Logs are kept where a test failed meanwhile."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the processes of test clusters are told apart by Linux's /proc")
    failed = request.session.testsfailed
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        try:
            cluster.start()
            yield cluster
        except BaseException:
            failed = -1
            raise
        finally:
            left = cluster.stop()
            if request.session.testsfailed != failed:
                print(f"logs of Hadoop's daemons: {cluster.logs}", file=sys.stderr)
            else:
                cluster.delete()
    assert not left, "processes that the cluster left behind:\n" + "\n".join(left)


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Hdfs]:
    """One HDFS for the run, for tests that leave its daemons alone."""
    with started(Hdfs(tmp_path_factory.mktemp("hdfs")), request) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def yarn(hdfs: Hdfs) -> Iterator[Yarn]:
    """One YARN for the run, on `hdfs`."""
    cluster = Yarn(hdfs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def own_hdfs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Hdfs]:
    """An HDFS of a module's own, whose daemons its tests kill and stop; `mended` brings them back between tests."""
    with started(Hdfs(tmp_path_factory.mktemp("own-hdfs")), request) as cluster:
        yield cluster


@pytest.fixture
def mended(own_hdfs: Hdfs) -> Iterator[Hdfs]:
    """`own_hdfs` with all daemons running, at the test's begin and again at its end."""
    own_hdfs.wait()
    try:
        yield own_hdfs
    finally:
        own_hdfs.mend()
