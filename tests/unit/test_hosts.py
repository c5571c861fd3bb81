"""Paths of this machine are refused where tasks run on others."""

from __future__ import annotations

import pytest

from shardwright.errors import ConfigError
from shardwright.spark.hosts import check_reachable, on_one_host


@pytest.mark.parametrize("master", ["local", "local[*]", "local[2,4]", "local-cluster[2,1,1024]"])
def test_one_host(master: str) -> None:
    assert on_one_host(master)
    check_reachable(master, {"/data/in": "read.path"})


@pytest.mark.parametrize("master", ["yarn", "spark://host:7077", "k8s://https://host", None])
def test_many_hosts(master: str | None) -> None:
    assert not on_one_host(master)
    check_reachable(master, {"hdfs://nn:8020/in": "read.path", "file:///shared/in": "read.path", "s3://bucket/in": "read.path"})


def test_every_path_is_named_with_what_to_do() -> None:
    places = {"/data/in": "read.path", "build/out": "publish.path", "hdfs:///in": "read.path"}
    with pytest.raises(ConfigError) as error:
        check_reachable("yarn", places)
    message = str(error.value)
    assert (
        "read.path: expected an hdfs:// URL, since tasks run on other machines (master yarn), found the path /data/in"
        in message
    )
    assert "publish.path: " in message
    assert "if they all see it, say so: file:///data/in" in message
    assert "build/out; if they all see it, say so: file:///" in message
    assert "hdfs:///in" not in message
