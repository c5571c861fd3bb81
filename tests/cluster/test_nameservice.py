"""Two NameNodes of one nameservice, one of them the standby: who is asked, and who after the active one has died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from shardwright.storage import open_writable
from shardwright.storage.webhdfs import WebHdfs
from tests.cluster.daemon import Daemon, Guard, wait_until
from tests.cluster.hdfs import SUPERUSER, Hdfs
from tests.processes import free_ports

_NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_ADMIN = "org.apache.hadoop.hdfs.tools.DFSHAAdmin"
URL = "hdfs://ns1/data"


@dataclass
class Pair:
    """NameNodes nn1 and nn2, without DataNodes: directories are all that there can be."""

    hdfs: Hdfs
    namenodes: dict[str, Daemon]

    def activate(self, name: str) -> None:
        self.wait(name, "standby")
        self.hdfs.run(_ADMIN, "-transitionToActive", "--forceactive", name)  # else it asks the other one, which is gone
        self.wait(name, "active")

    def wait(self, name: str, state: str) -> None:
        """Until a NameNode that was started says that it is in this state."""

        def reached() -> bool:
            try:
                return state in self.hdfs.run(_ADMIN, "-getServiceState", name).splitlines()
            except AssertionError:
                return False  # it does not listen yet

        wait_until(reached, f"{name} is {state}", 60, [self.namenodes[name]])


@pytest.fixture
def pair(tmp_path, monkeypatch) -> Iterator[Pair]:
    ports = free_ports(4)
    settings = {
        f"dfs.namenode.{kind}-address.ns1.nn{n}": f"127.0.0.1:{ports[2 * n - 2 + second]}"
        for n in (1, 2) for second, kind in enumerate(("rpc", "http"))
    }  # fmt: skip
    hdfs = Hdfs(
        tmp_path, datanodes=0, core={"fs.defaultFS": "hdfs://ns1"},
        hdfs={
            **settings, "dfs.nameservices": "ns1", "dfs.ha.namenodes.ns1": "nn1,nn2", "dfs.ha.fencing.methods": "shell(true)",
            "dfs.namenode.shared.edits.dir": (tmp_path / "edits").as_uri(),
            **{f"dfs.namenode.name.dir.ns1.nn{n}": (tmp_path / f"nn{n}").as_uri() for n in (1, 2)},
        },
    )  # fmt: skip
    for name, value in {**hdfs.environment, "HADOOP_USER_NAME": SUPERUSER}.items():
        monkeypatch.setenv(name, value)
    guard = Guard(str(tmp_path))
    (tmp_path / "edits").mkdir()
    who = {name: ("-D", f"dfs.ha.namenode.id={name}") for name in ("nn1", "nn2")}
    namenodes = {name: hdfs.daemon(name, _NAMENODE, *arguments) for name, arguments in who.items()}
    try:
        hdfs.run(_NAMENODE, *who["nn1"], "-format", "-nonInteractive")
        namenodes["nn1"].start()
        made = Pair(hdfs, namenodes)
        made.activate("nn1")
        hdfs.run(_NAMENODE, *who["nn2"], "-bootstrapStandby", "-nonInteractive")
        namenodes["nn2"].start()
        yield made
    finally:
        for daemon in namenodes.values():
            daemon.stop()
        assert guard.close() == []


def test_the_active_one_answers(pair):
    web = WebHdfs(URL)
    storage = open_writable(URL)
    storage.make_directory("a")
    assert storage.names() == ["a"]
    pair.namenodes["nn1"].kill()
    pair.activate("nn2")
    assert web.call("GET", "LISTSTATUS", "/data")["FileStatuses"]["FileStatus"][0]["pathSuffix"] == "a"
    storage.make_directory("b")
    assert open_writable(URL).names() == ["a", "b"]
    pair.namenodes["nn1"].start()  # as the standby, which refuses to answer
    other = WebHdfs(URL)
    pair.wait("nn1", "standby")
    assert len(other.call("GET", "LISTSTATUS", "/data")["FileStatuses"]["FileStatus"]) == 2
