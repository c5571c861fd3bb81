"""Files of hosts: what they may say, and which host a DataNode is."""

from __future__ import annotations

import pytest

from shardwright.cli.hosts import read_hosts
from shardwright.errors import ConfigError, InputNotFoundError


@pytest.fixture
def hosts(tmp_path):
    def write(text):
        (tmp_path / "hosts").write_text(text)
        return read_hosts(tmp_path / "hosts")

    return write


def test_one_a_line(hosts):
    found = hosts("# the rack\n\nNode-a.invalid slots=8\n  node-b.invalid:9866  # the second\n[::1]:9866\n10.0.0.3\n")
    assert [(host.name, host.port, host.line) for host in found] == [
        ("node-a.invalid", "", "Node-a.invalid slots=8"), ("node-b.invalid", "9866", "node-b.invalid:9866"),
        ("::1", "9866", "[::1]:9866"), ("10.0.0.3", "", "10.0.0.3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "datanode, name, expected",
    [
        ("node-a.invalid", "10.0.0.1:9866", 0),  # by its name, in any case of letters
        ("NODE-A.invalid", "10.0.0.1:9866", 0),
        ("else.invalid", "10.0.0.3:9866", 3),  # by its address
        ("node-b.invalid", "10.0.0.2:9866", 1),  # by name and port
        ("node-b.invalid", "10.0.0.2:9867", None),
        ("else.invalid", "127.0.0.1:9866", 2),  # by the address that a name resolves to, and port
        ("else.invalid", "127.0.0.1:9867", None),
        ("else.invalid", "10.0.0.4:9866", None),
    ],
)
def test_which_host_a_datanode_is(hosts, datanode, name, expected):
    assert hosts("node-a.invalid\nnode-b.invalid:9866\nlocalhost:9866\n10.0.0.3\n").find(datanode, name) == expected


def test_what_a_file_may_not_say(hosts, tmp_path):
    with pytest.raises(InputNotFoundError, match=r"no file of hosts at .*/none: expected one host a line"):
        read_hosts(tmp_path / "none")
    with pytest.raises(ConfigError, match="expected one host a line, found none"):
        hosts("# nobody\n\n")
    with pytest.raises(ConfigError) as caught:
        hosts("a.invalid\nlocalhost\nA.invalid\n127.0.0.1\nb.invalid:1\nb.invalid:2\n")
    assert [line.partition(": ")[2] for line in caught.value.problems] == [
        "line 3 lists the host of line 1 again; list each node once",
        "line 4 lists the host of line 2 again: localhost and 127.0.0.1 have one address; list each node once",
    ]
