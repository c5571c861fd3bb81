"""A real HDFS: a NameNode and DataNodes on loopback addresses, in a directory of its own."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tests.cluster.configuration import java, java_home, make_conf, write_site
from tests.cluster.daemon import MARK, Daemon, Guard, wait_until
from tests.cluster.jars import hadoop_jars
from tests.cluster.kerberos import Kdc
from tests.processes import free_ports

SUPERUSER = "hdfs"
USER = "shardwright"
"""Who the tests are: an ordinary user, in the group "data" too."""

_HDFS = "org.apache.hadoop.hdfs"
_HEAP_MB = 192
_NAMENODE = "Hadoop:service=NameNode,name=FSNamesystemState"
_STATUS = "Hadoop:service=NameNode,name=NameNodeStatus"
_DATANODE = "Hadoop:service=DataNode,name=DataNodeInfo"


class Hdfs:
    """NameNode and DataNodes, n = 1, 2, …, each a process.

    DataNode n is the host 127.0.0.n (Linux answers on all of 127/8), so that block locations tell them apart. They are
    reached at 127.0.0.1 with ports of their own. `core` and `hdfs` add to the settings of core-site.xml and hdfs-site.xml.
    With `kerberos` all is asked for tickets and tokens, and `localhost` is the name of the NameNode, as its principals have it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        datanodes: int = 3,
        core: Mapping[str, object] | None = None,
        hdfs: Mapping[str, object] | None = None,
        kerberos: Kdc | None = None,
    ) -> None:
        rpc, http, *ports = free_ports(2 + 3 * datanodes)
        self.folder, self.kerberos = folder, kerberos
        self.host = "localhost" if kerberos else "127.0.0.1"
        self.url = f"hdfs://{self.host}:{rpc}"
        self.namenodes_http = [f"http://{self.host}:{http}"]
        self.webhdfs = f"webhdfs://{self.host}:{http}"
        self.conf = make_conf(folder)
        secure = (kerberos.core(), kerberos.hdfs()) if kerberos else ({}, {})
        self.core: dict[str, object] = {**self._core(), **secure[0], **(core or {})}
        self.settings: dict[str, object] = {**self._hdfs(rpc, http), **secure[1], **(hdfs or {})}
        write_site(self.conf, "core-site", self.core)
        write_site(self.conf, "hdfs-site", self.settings)
        self.logs = folder / "logs"
        self.logs.mkdir()
        for name in ("hdfs", "datanode"):  # which the published jars lack, and the web servers ask for
            (folder / "web/webapps" / name).mkdir(parents=True)
        self.namenodes = [self.daemon("namenode", f"{_HDFS}.server.namenode.NameNode")]
        self.datanodes = [self._datanode(n, ports[3 * n - 3 : 3 * n]) for n in range(1, datanodes + 1)]
        self._http = [f"http://127.0.0.{n}:{ports[3 * n - 1]}" for n in range(1, datanodes + 1)]
        self._numbers = itertools.count(1)
        self._guard: Guard | None = None

    @property
    def namenode(self) -> Daemon:
        """The only one, or the first of several."""
        return self.namenodes[0]

    @property
    def daemons(self) -> list[Daemon]:
        """All, in the order in which they are started."""
        return [*self.namenodes, *self.datanodes]

    @property
    def active(self) -> int | None:
        """The place of the active NameNode in `namenodes`."""
        return next((n for n in range(len(self.namenodes)) if self.state_of(n) == "active"), None)

    def state_of(self, n: int) -> str | None:
        """Of the NameNode at place `n`: active, standby, initializing; None while it is not there."""
        return self._bean(self.namenodes_http[n], _STATUS).get("State")

    @property
    def http(self) -> str:
        """The web server of the active NameNode, or of the first where none is."""
        return self.namenodes_http[(len(self.namenodes_http) > 1 and self.active) or 0]

    @property
    def environment(self) -> dict[str, str]:
        """What a client process needs; daemons have another HADOOP_USER_NAME, and `mark`. A secure one gets `USER`'s ticket."""
        return {"HADOOP_CONF_DIR": str(self.conf), "JAVA_HOME": java_home(), **self._login}

    @property
    def mark(self) -> dict[str, str]:
        """The variable that makes a process one of this cluster's: it ends with the cluster at the latest."""
        return {MARK: str(self.folder)}

    @functools.cached_property
    def _login(self) -> dict[str, str]:
        if self.kerberos is None:
            return {"HADOOP_USER_NAME": USER}
        return {**self.kerberos.environment, "KRB5CCNAME": f"FILE:{self.kerberos.ticket(USER)}"}

    def start(self) -> None:
        """Format, start all, and make the home directory of `USER`. Takes about 10 s."""
        self._guard = Guard(str(self.folder))
        self.format()
        for daemon in self.daemons:
            if not daemon.running:
                daemon.start()
        self.wait()
        self.request("PUT", "/tmp", "MKDIRS", permission="1777")
        self.request("PUT", f"/user/{USER}", "MKDIRS")
        self.request("PUT", f"/user/{USER}", "SETOWNER", owner=USER, group=USER)

    def format(self) -> None:
        """Make the NameNode's directory."""
        self.run(f"{_HDFS}.server.namenode.NameNode", "-format", "-nonInteractive")

    def stop(self) -> list[str]:
        """End all; the command lines of processes of this cluster that were left over, for which there is no excuse."""
        for daemon in reversed(self.daemons):
            daemon.stop()
        left = self._guard.close() if self._guard else []
        self._guard = None
        return left

    def delete(self) -> None:
        """Remove all that it held."""
        shutil.rmtree(self.folder)

    def new_folder(self, name: str = "test") -> str:
        """The hdfs:// URL of a directory of `USER` that nobody else uses, and that does not exist yet."""
        return f"{self.url}/user/{USER}/{name}-{next(self._numbers)}"

    def wait(self, live: int | None = None, seconds: float = 60) -> float:
        """Seconds until all DataNodes that run serve, so many (all that run) count as alive, and there is no safe mode."""
        running = [http for http, daemon in zip(self._http, self.datanodes, strict=True) if daemon.running]
        wanted = live if live is not None else len(running)

        def ready() -> bool:
            if any(
                '"ActorState":"RUNNING"' not in self._bean(http, _DATANODE).get("BPServiceActorInfo", "") for http in running
            ):
                return False  # for a while the NameNode takes one that was ended for alive
            state = self.state()
            return state.get("NumLiveDataNodes") == wanted and state.get("FSState") == "Operational"

        return wait_until(ready, f"{wanted} live DataNodes, and no safe mode", seconds, self.namenodes)

    def state(self) -> dict[str, Any]:
        """What the NameNode says of itself: NumLiveDataNodes, FSState, UnderReplicatedBlocks, …; {} while it is not there."""
        return self._bean(self.http, _NAMENODE)

    def kill_datanode(self, n: int) -> None:
        """Kill -9; the NameNode counts it as dead after 12 s."""
        self.datanodes[n - 1].kill()

    def start_datanode(self, n: int) -> None:
        """Start one that was ended, and wait until it counts as alive."""
        self.datanodes[n - 1].start()
        self.wait()

    def restart_namenode(self) -> float:
        """Kill -9 and start again; seconds until it serves."""
        self.namenode.kill()
        self.namenode.start()
        return self.wait()

    def mend(self) -> None:
        """Bring back what a fault test ended or stopped."""
        for daemon in self.daemons:
            if daemon.running:
                daemon.go_on()
            else:
                daemon.start()
        self.wait()

    def request(self, method: str, path: str, op: str, *, user: str = SUPERUSER, **parameters: object) -> dict[str, Any]:
        """A WebHDFS request without a body (MKDIRS, SETQUOTA, SETECPOLICY, GETFILEBLOCKLOCATIONS, …), by the superuser."""
        query = urlencode({"op": op, **({} if self.kerberos else {"user.name": user}), **parameters})
        try:
            return dict(json.loads(self.fetch(f"{self.http}/webhdfs/v1{quote(path)}?{query}", method, seconds=60) or b"{}"))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path} {op}: {error} {error.read().decode()}") from None

    def fetch(self, url: str, method: str = "GET", *, data: bytes | None = None, seconds: float = 5) -> bytes:
        """What a daemon's web server answers the superuser. Raises OSError."""
        request = urllib.request.Request(url, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self.kerberos:
            request.add_header("Authorization", self.kerberos.authorisation())
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return bytes(answer.read())

    def admin(self, *arguments: str) -> str:
        """`hdfs dfsadmin ARGUMENT…` by the superuser; what it said. Takes 2 s, `request` does not."""
        return self.run(f"{_HDFS}.tools.DFSAdmin", *arguments)

    def admin_ec(self, *arguments: str) -> str:
        """`hdfs ec ARGUMENT…` by the superuser; what it said."""
        return self.run(f"{_HDFS}.tools.ECAdmin", *arguments)

    def run(self, main: str, *arguments: str) -> str:
        """One of Hadoop's Java classes by the superuser, to its end; what it said. Fails where it fails."""
        command = java(main, arguments, self.classpath, _HEAP_MB, self._java_options)
        done = subprocess.run(
            command, env=self._daemon_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{main} {' '.join(arguments)} failed:\n{done.stdout[-3000:]}"
        return done.stdout

    @property
    def classpath(self) -> list[str | Path]:
        return [self.conf, self.folder / "web", f"{hadoop_jars()}/*"]

    def daemon(self, name: str, main: str, *arguments: str, heap_mb: int = _HEAP_MB) -> Daemon:
        """A process of this cluster, not started yet."""
        command = java(main, arguments, self.classpath, heap_mb, self._java_options)
        return Daemon(name, command, self._daemon_environment(), self.logs / f"{name}.log")

    def data(self, n: int) -> Path:
        """Where DataNode n keeps its blocks."""
        return self.folder / f"data/{n}"

    def _datanode(self, n: int, ports: list[int]) -> Daemon:
        # The NameNode notes 127.0.0.1 as the address of them all, where they come from; WebHDFS redirects to the host name.
        settings = {
            "dfs.datanode.data.dir": self.data(n).as_uri(), "dfs.datanode.hostname": f"127.0.0.{n}",
            "dfs.datanode.address": f"127.0.0.1:{ports[0]}", "dfs.datanode.ipc.address": f"127.0.0.1:{ports[1]}",
            "dfs.datanode.http.address": f"127.0.0.{n}:{ports[2]}",
        }  # fmt: skip
        arguments = itertools.chain.from_iterable(("-D", f"{name}={value}") for name, value in settings.items())
        return self.daemon(f"datanode-{n}", f"{_HDFS}.server.datanode.DataNode", *arguments)

    def _daemon_environment(self) -> dict[str, str]:
        login = {"KRB5CCNAME": f"FILE:{self.kerberos.superuser}"} if self.kerberos else {"HADOOP_USER_NAME": SUPERUSER}
        return {**os.environ, **self.environment, **self.mark, **login}

    @property
    def _java_options(self) -> list[str]:
        return [self.kerberos.java_options] if self.kerberos else []

    def _bean(self, http: str, name: str) -> dict[str, Any]:
        """What a daemon says of itself at its web server; {} while it is not there."""
        try:
            beans = json.loads(self.fetch(f"{http}/jmx?qry={name}"))["beans"]
        except (OSError, ValueError, HTTPException):
            return {}
        return dict(beans[0]) if beans else {}

    def _core(self) -> dict[str, object]:
        return {
            "fs.defaultFS": self.url,
            "fs.trash.interval": 60,
            "hadoop.tmp.dir": self.folder / "tmp",
            "hadoop.user.group.static.mapping.overrides": f"{SUPERUSER}=supergroup;{USER}={USER},data",
            "ipc.client.connect.max.retries": 10,
            "ipc.client.connect.retry.interval": 500,
        }

    def _hdfs(self, rpc: int, http: int) -> dict[str, object]:
        return {
            "dfs.namenode.rpc-address": f"{self.host}:{rpc}",
            "dfs.namenode.http-address": f"{self.host}:{http}",
            "dfs.namenode.name.dir": (self.folder / "data/namenode").as_uri(),
            "dfs.namenode.handler.count": 8,
            "dfs.datanode.handler.count": 4,
            "dfs.replication": 2,
            "dfs.blocksize": 2**20,
            "dfs.namenode.fs-limits.min-block-size": 2**16,
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.namenode.safemode.extension": 0,
            # a DataNode counts as dead after 2 recheck intervals and 10 heartbeats: 12 s
            "dfs.heartbeat.interval": 1,
            "dfs.namenode.heartbeat.recheck-interval": 1000,
            "dfs.webhdfs.enabled": "true",
        }
