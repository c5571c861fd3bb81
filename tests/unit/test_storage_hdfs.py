"""What of HDFS needs no daemon: options, servers that are not there, and what the NameNode's answers are made into.

The answers are those of Hadoop 3.5 and hdfs-native 0.14, word for word.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import ValidationError

from shardwright.config import load_config, publish_options
from shardwright.errors import ConfigError, MissingDependencyError, StorageError
from shardwright.stages.publish import PublishOptions
from shardwright.storage import HdfsOptions, HdfsStorage, open_storage, open_writable
from shardwright.storage.hdfs_errors import clear_error
from shardwright.storage.scratch import scratch_file

_MIB = 2**20
_TRACE = r"\n\tat org.apache.hadoop.hdfs.server.namenode.FSDirectory.verify(FSDirectory.java:1)\n"
_WHERE = "hdfs://ns1/data/x"


class Answer(NamedTuple):
    """An exception of the NameNode, and what is made of it: a StorageError that begins with "can't write <where>: "."""

    java: str
    text: str
    patience: str
    message: str


ANSWERS = [
    Answer(
        "hadoop.security.AccessControlException",
        "SIMPLE authentication is not enabled.  Available:[TOKEN, KERBEROS]",
        "final",
        "the cluster asks for Kerberos, which Hadoop's configuration here does not say: set HADOOP_CONF_DIR (now not set) to "
        "the cluster's own, with hadoop.security.authentication "
        "(SIMPLE authentication is not enabled.  Available:[TOKEN, KERBEROS])",
    ),
    Answer(
        "hadoop.hdfs.server.namenode.SafeModeException",
        r"Cannot create file/data/x. Name node is in safe mode.\nIt was turned on manually. Use \"hdfs dfsadmin -safemode "
        r"leave\" to turn safe mode off. NamenodeHostName:localhost",
        "final",
        "the NameNode is in safe mode, so nothing can be written: Cannot create file/data/x. Name node is in safe mode. It was "
        'turned on manually. Use "hdfs dfsadmin -safemode leave" to turn safe mode off. NamenodeHostName:localhost; hdfs '
        "dfsadmin -safemode get tells, an administrator ends it",
    ),
    Answer(
        "hadoop.ipc.RetriableException",
        r"org.apache.hadoop.hdfs.server.namenode.SafeModeException: Cannot delete /data/x. Name node is in safe mode.\nThe "
        "reported blocks 0 needs additional 5 blocks",
        "starting",
        "the NameNode is in safe mode, so nothing can be written: org.apache.hadoop.hdfs.server.namenode.SafeModeException: "
        "Cannot delete /data/x. Name node is in safe mode. The reported blocks 0 needs additional 5 blocks; try again in some "
        "minutes",
    ),
    Answer(
        "hadoop.ipc.StandbyException",
        "Operation category WRITE is not supported in state standby",
        "starting",
        "no NameNode is active: Operation category WRITE is not supported in state standby",
    ),
    Answer(
        "hadoop.hdfs.protocol.NSQuotaExceededException",
        "The NameSpace quota (directories and files) of directory /data is exceeded: quota=2 file count=3",
        "final",
        "/data may hold 2 files and directories, and would hold 3; see `hdfs dfs -count -q -h /data`, then remove old versions "
        "(shardwright expire), or ask an administrator for more (hdfs dfsadmin -setQuota)",
    ),
    Answer(
        "hadoop.hdfs.protocol.DSQuotaExceededException",
        "The DiskSpace quota of /data is exceeded: quota = 20971520 B = 20 MB but diskspace consumed = 33556432 B = 32.00 MB",
        "final",
        "/data may take 20 MB, and would take 32.00 MB, copies counted, and a block that is being written as full; see `hdfs "
        "dfs -count -q -h /data`, then remove old versions (shardwright expire), or ask an administrator for more (hdfs "
        "dfsadmin -setSpaceQuota)",
    ),
    Answer(
        "io.IOException",
        "File /data/x could only be written to 0 of the 1 minReplication nodes. There are 3 datanode(s) running and 3 node(s) "
        "are excluded in this operation.",
        "again",
        "too few DataNodes can take a block of it: File /data/x could only be written to 0 of the 1 minReplication nodes. "
        "There are 3 datanode(s) running and 3 node(s) are excluded in this operation; see `hdfs dfsadmin -report` for dead or "
        "full ones",
    ),
    Answer(
        "io.IOException",
        "File /data/x could only be written to 3 of the 6 required nodes for RS-6-3-1024k. There are 3 datanode(s) running.",
        "again",
        "too few DataNodes can take a block of it: File /data/x could only be written to 3 of the 6 required nodes for "
        "RS-6-3-1024k. There are 3 datanode(s) running; its erasure-coding policy needs so many live ones: choose a smaller "
        "policy, or none",
    ),
    Answer(
        "io.IOException",
        "Specified block size 1024 is less than configured minimum value dfs.namenode.fs-limits.min-block-size=65536",
        "final",
        "Specified block size 1024 is less than configured minimum value dfs.namenode.fs-limits.min-block-size=65536; set "
        "publish.block_bytes to that at least",
    ),
    Answer(
        "io.IOException",
        "Requested replication factor of 600 exceeds maximum of 512 for /data/x, clientName=a",
        "final",
        "Requested replication factor of 600 exceeds maximum of 512 for /data/x, clientName=a; set publish.replication "
        "accordingly",
    ),
    Answer(
        "hadoop.fs.InvalidPathException",
        "Invalid path name /data/a:b",
        "final",
        "the NameNode refused (InvalidPathException): Invalid path name /data/a:b",
    ),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=[answer.java.rpartition(".")[2] for answer in ANSWERS])
def test_what_the_name_node_answers(answer: Answer) -> None:
    error, patience = clear_error(remote(answer.java, answer.text), "write", _WHERE)
    assert type(error) is StorageError
    assert str(error) == f"can't write {_WHERE}: {answer.message}"
    assert patience == answer.patience


@pytest.mark.parametrize(
    "text, message",
    [
        (
            r"Permission denied: user=bob, access=WRITE, inode=\"/data\":root:supergroup:drwxr-xr-x",
            (
                "user bob lacks WRITE on /data (owner and group root:supergroup, drwxr-xr-x); ask its owner (hdfs dfs -chmod, "
                "-chgrp, -setfacl), or run as a user who may"
            ),
        ),
        (
            "Permission denied. user=bob is not the owner of inode=/data",
            "Permission denied. user=bob is not the owner of inode=/data; ask its owner, or run as a user who may",
        ),
    ],
)
def test_no_permission(text: str, message: str) -> None:
    error, patience = clear_error(remote("hadoop.security.AccessControlException", text), "write", _WHERE)
    assert (str(error), patience) == (f"no permission to write {_WHERE}: {message}", "final")


FILES = [
    (FileNotFoundError("File does not exist: /data/x\n\tat org.apache.X"), "[Errno 2] No such file or directory"),
    (FileNotFoundError("Path is not a file: /data/x\n\tat org.apache.X"), "[Errno 2] Path is not a file: /data/x"),
    (FileExistsError("/data/x for client 127.0.0.1 already exists\n\tat org.apache.X"), "[Errno 17] File exists"),
]


@pytest.mark.parametrize("raised, message", FILES)
def test_files_that_are_not_there_or_are(raised: OSError, message: str) -> None:
    error, patience = clear_error(raised, "write", _WHERE)
    assert (type(error), str(error), patience) == (type(raised), f"{message}: '{_WHERE}'", "final")


def test_a_file_in_the_place_of_a_directory() -> None:
    error, _ = clear_error(remote("hadoop.fs.ParentNotDirectoryException", "/data (is not a directory)"), "write", _WHERE)
    assert (type(error), str(error)) == (NotADirectoryError, f"[Errno 20] /data (is not a directory): '{_WHERE}'")


def remote(java: str, text: str) -> RuntimeError:
    """As hdfs-native shows an exception of the NameNode."""
    package = "java" if java.startswith("io.") else "org.apache"
    return RuntimeError(f'RPCError("{package}.{java}", "{text}{_TRACE}")')


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("said already"), ZeroDivisionError(), ConfigError(["x"])])
def test_what_is_none_of_hdfs_stays_as_it_is(error: BaseException) -> None:
    assert clear_error(error, "write", _WHERE) == (error, "final")


def configured(folder: Path, patch: pytest.MonkeyPatch, **settings: str) -> None:
    """Hadoop's configuration, dots of names as two underscores."""
    values = {name.replace("__", "."): value for name, value in settings.items()}
    rows = "".join(f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items())
    (folder / "core-site.xml").write_text(f"<configuration>{rows}</configuration>")
    patch.setenv("HADOOP_CONF_DIR", str(folder))


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_server_that_is_not_there(free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said within seconds, where hdfs-native alone takes three minutes."""
    pytest.importorskip("hdfs_native")
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("HADOOP_HOME", raising=False)
    expected = {
        f"hdfs://127.0.0.1:{free_port}": rf"can't reach hdfs://127.0.0.1:{free_port}: nothing that speaks HDFS answers there "
        r"\(.*refused.*\): is the NameNode up, and is this its RPC port .*; HADOOP_CONF_DIR is not set",
        "hdfs://no-such-host.invalid": r"can't reach hdfs://no-such-host.invalid:8020: a host in it has no address, nor is it "
        "a nameservice; HADOOP_CONF_DIR is not set",
        "hdfs://": r"hdfs:// names no NameNode: write hdfs://host:port/path, or set HADOOP_CONF_DIR \(now not set\)",
    }
    for server, message in expected.items():
        begun = time.monotonic()
        with pytest.raises(StorageError, match=message):
            HdfsStorage(f"{server}/data").exists()
        assert time.monotonic() - begun < 15
    for server in ("127.0.0.1:x", "[::1"):
        with pytest.raises(
            StorageError, match=f"expected host:port, or the name of a nameservice, found '{re.escape(server)}'"
        ):
            HdfsStorage(f"hdfs://{server}/data").exists()
    configured(tmp_path, monkeypatch, fs__defaultFS=f"hdfs://127.0.0.1:{free_port}")
    with pytest.raises(StorageError, match=rf"can't reach hdfs://127.0.0.1:{free_port}: .*HADOOP_CONF_DIR is {tmp_path}"):
        open_storage("hdfs:///data").read("x")


def test_a_nameservice_without_a_name_node_that_answers(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hdfs_native")
    configured(
        tmp_path, monkeypatch, dfs__nameservices="ns1", dfs__ha__namenodes__ns1="a,b",
        **{f"dfs__namenode__rpc-address__ns1__{name}": f"127.0.0.1:{free_port}" for name in "ab"},
    )  # fmt: skip
    with pytest.raises(StorageError, match=f"can't reach hdfs://ns1: nothing that speaks HDFS answers there .*{tmp_path}"):
        open_writable("hdfs://ns1/data").make_directory()


def test_without_hdfs_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(MissingDependencyError, match=r"hdfs:// needs hdfs-native: pip install 'shardwright\[hdfs\]'"):
        open_storage("hdfs://namenode.invalid:1/x").read("f")


def test_blocks_of_a_parts_own_size() -> None:
    options = HdfsOptions(block_bytes="part")
    assert [options.block_of(size, {}) for size in (1, _MIB, _MIB + 1, 300 * _MIB - 1)] == [_MIB, _MIB, 2 * _MIB, 300 * _MIB]
    assert options.block_of(2**31, {}) == 2**31
    assert options.block_of(2**31 + 1, {}) is None
    least = {"dfs.namenode.fs-limits.min-block-size": str(4 * _MIB)}
    assert [options.block_of(size, least) for size in (3 * _MIB, 4 * _MIB)] == [None, 4 * _MIB]
    assert HdfsOptions(block_bytes=4 * _MIB).block_of(1, {}) == 4 * _MIB
    assert HdfsOptions().block_of(10**9, {}) is None


def test_permissions() -> None:
    assert HdfsOptions().permission(0o666, {}) == 0o644
    assert HdfsOptions().permission(0o777, {"fs.permissions.umask-mode": "027"}) == 0o750
    assert HdfsOptions(umask="0002").permission(0o777, {"fs.permissions.umask-mode": "027"}) == 0o775
    with pytest.raises(
        StorageError, match=r"fs.permissions.umask-mode .*expected octal digits .*, found 'u=rwx'; set publish.umask"
    ):
        HdfsOptions().permission(0o777, {"fs.permissions.umask-mode": "u=rwx"})


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"replication": 3, "erasure_coding": "RS-6-3-1024k"},
        "erasure_coding decides on blocks and copies: leave out replication",
    ),
    ({"block_bytes": "part", "erasure_coding": "XOR-2-1-1024k"}, "leave out block_bytes"),
    ({"replication": 0}, "greater than or equal to 1"),
    ({"block_bytes": 1024}, 'expected "part", or bytes: a multiple of 512, and 1048576 at least'),
    ({"block_bytes": _MIB + 1}, "a multiple of 512"),
    ({"block_bytes": "whole"}, 'expected "part"'),
    ({"storage_policy": "warm"}, "'WARM'"),
    ({"umask": "9"}, "should match pattern"),
]


@pytest.mark.parametrize("values, message", BAD)
def test_options_that_can_not_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HdfsOptions(**values)


def test_options_need_hdfs(tmp_path: Path) -> None:
    message = "replication, umask: expected an hdfs:// URL .*, found '/data/x'; leave them out"
    with pytest.raises(ConfigError, match=message):
        open_writable("/data/x", HdfsOptions(replication=2, umask="027"))
    with pytest.raises(ValidationError, match=message):
        PublishOptions(path="/data/x", replication=2, umask="027")
    assert open_writable("/data/x", PublishOptions(path="/data/x")).local_path() == Path("/data/x")
    (tmp_path / "c.toml").write_text(
        'name = "d"\n[read]\nformat = "csv"\npath = "x.csv"\n[shard]\ncount = 2\n'
        '[publish]\nreplication = 2\nblock_bytes = "part"\ngroup = "data"\n'
    )
    with pytest.raises(
        ConfigError, match="publish: replication, block_bytes, group: expected an hdfs:// URL as path, found None"
    ):
        load_config(tmp_path / "c.toml")
    publish = load_config(tmp_path / "c.toml", output="hdfs://ns1/d").publish
    assert (publish.path, publish.replication, publish.block_bytes, publish.group) == ("hdfs://ns1/d", 2, "part", "data")


def test_options_of_a_job_without_a_configuration() -> None:
    found = publish_options(["publish.replication=2", "publish.block_bytes=part", 'publish.umask="027"'], "hdfs://a/b")
    assert found == PublishOptions(path="hdfs://a/b", replication=2, block_bytes="part", umask="027")
    assert publish_options([], "/data/x") == PublishOptions(path="/data/x")
    for setting, output, message in [
        ("shard.count=2", "hdfs://a/b", r"--set shard.count=2: expected publish.KEY=VALUE"),
        ("publish.path=x", "hdfs://a/b", r"--set publish.path=x: expected .*--output is the path"),
        ("publish.replicas=2", "hdfs://a/b", r"--set: \[publish\] replicas: unknown key; .*'replication'"),
        ("publish.replication=2", "/data/x", "--set: publish: replication: expected an hdfs:// URL as path, found '/data/x'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            publish_options([setting], output)


def test_what_hdfs_passes_on_is_not_set_again() -> None:
    options = PublishOptions(path="hdfs://a/b", group="data", storage_policy="COLD", umask="027", replication=2)
    assert options.below().asked() == ["replication", "umask"]


def test_scratch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with scratch_file("part", _WHERE) as path:
        assert path.name == "part"
        assert not path.is_relative_to(tmp_path)
    monkeypatch.setenv("CONTAINER_ID", "container_1")
    with scratch_file("part", _WHERE) as path:
        path.write_bytes(b"x")
        assert path.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(StorageError, match=f"no space left in {tmp_path} on this machine, where {_WHERE} is written before"),
        scratch_file("part", _WHERE),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
