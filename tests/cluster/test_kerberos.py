"""A secure cluster: who has a ticket, a keytab or a token works; who has none is told what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import started
from tests.cluster.hdfs import Hdfs
from tests.cluster.kerberos import Kdc


@pytest.fixture(scope="module")
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    realm = Kdc(tmp_path_factory.mktemp("realm") / "kdc")
    realm.start()
    yield realm
    left = realm.stop()
    assert not left, left


@pytest.fixture(scope="module")
def secure(kdc: Kdc, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Hdfs]:
    with started(Hdfs(tmp_path_factory.mktemp("secure"), kerberos=kdc), request) as cluster:
        yield cluster


def test_first(secure: Hdfs) -> None:
    from shardwright.storage import open_writable

    storage = open_writable(secure.new_folder())
    storage.make_directory()
    storage.write("a", b"1" * 1000)
    assert storage.read("a") == b"1" * 1000
    print(secure.request("GET", storage.url.partition(str(secure.url))[2], "LISTSTATUS"))
