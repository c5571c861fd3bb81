"""A real HDFS that survives its NameNode: an active one and a standby, which take turns by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.cluster.daemon import Daemon, listens, wait_until
from tests.cluster.hdfs import Hdfs
from tests.cluster.kerberos import Kdc
from tests.processes import free_ports

_HDFS = "org.apache.hadoop.hdfs"
_NAMENODE = f"{_HDFS}.server.namenode.NameNode"
_CONTROLLER = f"{_HDFS}.tools.DFSZKFailoverController"
_NAMES = ("nn1", "nn2")
_HEAP_MB = 128


class HaHdfs(Hdfs):
    """The nameservice ns1: NameNodes nn1 and nn2, three JournalNodes, a ZooKeeper, and a failover controller for each NameNode.

    When the active NameNode dies, the other one is active about 2 s later; a NameNode that is started again is the standby.
    """

    def __init__(
        self, folder: Path, *, datanodes: int = 3, core: Mapping[str, object] | None = None,
        hdfs: Mapping[str, object] | None = None, kerberos: Kdc | None = None,
    ) -> None:  # fmt: skip
        host = "localhost" if kerberos else "127.0.0.1"
        zookeeper, *ports = free_ports(1 + 3 * len(_NAMES) + 2 * 3)
        of_names, of_journals = ports[: 3 * len(_NAMES)], ports[3 * len(_NAMES) :]
        rpc, http, controllers = of_names[0::3], of_names[1::3], of_names[2::3]
        journals = list(zip(of_journals[0::2], of_journals[1::2], strict=True))
        super().__init__(
            folder, datanodes=datanodes, kerberos=kerberos,
            core={
                "fs.defaultFS": "hdfs://ns1", "ha.zookeeper.quorum": f"127.0.0.1:{zookeeper}",
                "ha.zookeeper.session-timeout.ms": 4000, "ha.health-monitor.check-interval.ms": 500,
                "ha.health-monitor.connect-retry-interval.ms": 500, "ha.health-monitor.rpc-timeout.ms": 5000,
                "ipc.client.connect.max.retries": 2, **(core or {}),
            },
            hdfs={
                "dfs.nameservices": "ns1", "dfs.ha.namenodes.ns1": ",".join(_NAMES),
                "dfs.namenode.shared.edits.dir": f"qjournal://{';'.join(f'127.0.0.1:{port}' for port, _ in journals)}/ns1",
                "dfs.client.failover.proxy.provider.ns1":
                    f"{_HDFS}.server.namenode.ha.ConfiguredFailoverProxyProvider",
                "dfs.ha.fencing.methods": f"shell({_fence(folder)})", "dfs.ha.automatic-failover.enabled": "true",
                "dfs.ha.tail-edits.period": "1s", "dfs.ha.log-roll.period": "10s",
                **{f"dfs.namenode.rpc-address.ns1.{n}": f"{host}:{port}" for n, port in zip(_NAMES, rpc, strict=True)},
                **{f"dfs.namenode.http-address.ns1.{n}": f"{host}:{port}" for n, port in zip(_NAMES, http, strict=True)},
                **{f"dfs.namenode.name.dir.ns1.{n}": (folder / "data" / n).as_uri() for n in _NAMES},
                **{f"dfs.ha.zkfc.port.ns1.{n}": port for n, port in zip(_NAMES, controllers, strict=True)},
                **(hdfs or {}),
            },
        )  # fmt: skip
        self.url, self.webhdfs = "hdfs://ns1", "webhdfs://ns1"
        self.namenodes_http = [f"http://{host}:{port}" for port in http]
        (folder / "web/webapps/journal").mkdir()
        self._ports = {"zookeeper": zookeeper, **{f"journalnode-{n}": port for n, (port, _) in enumerate(journals, 1)}}
        self.zookeeper = self._zookeeper(zookeeper)
        self.journalnodes = [self._journalnode(n, *pair) for n, pair in enumerate(journals, 1)]
        self.namenodes = [self.daemon(f"namenode-{name}", _NAMENODE, *_own(name)) for name in _NAMES]
        self.controllers = [self.daemon(f"zkfc-{name}", _CONTROLLER, *_own(name), heap_mb=_HEAP_MB) for name in _NAMES]

    @property
    def daemons(self) -> list[Daemon]:
        return [self.zookeeper, *self.journalnodes, *self.namenodes, *self.controllers, *self.datanodes]

    def format(self) -> None:
        """Make the directories of both NameNodes, and the place in ZooKeeper. Leaves what that needs running."""
        needed = [self.zookeeper, *self.journalnodes]
        for daemon in needed:
            daemon.start()
        wait_until(lambda: all(map(listens, self._ports.values())), "ZooKeeper and JournalNodes", 60, needed)
        self.run(_NAMENODE, *_own("nn1"), "-format", "-nonInteractive")
        self.namenode.start()
        self.run(_CONTROLLER, *_own("nn1"), "-formatZK", "-nonInteractive", "-force")
        wait_until(lambda: self.state_of(0) == "standby", "nn1", 60, [self.namenode])
        self.run(_NAMENODE, *_own("nn2"), "-bootstrapStandby", "-nonInteractive")

    def kill_active(self) -> Daemon:
        """Kill -9; the NameNode that it was."""
        active = self.active
        assert active is not None, "no NameNode is active"
        self.namenodes[active].kill()
        return self.namenodes[active]

    def pause_active(self) -> None:
        """It hangs, with its connections open, until it is fenced."""
        active = self.active
        assert active is not None, "no NameNode is active"
        self.namenodes[active].pause()

    def wait_for_both(self) -> None:
        """Until one is active and the other the standby."""

        def both() -> bool:
            return sorted(self.state_of(n) or "" for n in range(len(self.namenodes))) == ["active", "standby"]

        wait_until(both, "an active NameNode and a standby", 90, self.namenodes)

    def mend(self) -> None:
        wait_until(lambda: self.active is not None, "an active NameNode", 90)  # fencing would end one that was started sooner
        super().mend()
        self.wait_for_both()

    def _zookeeper(self, port: int) -> Daemon:
        file = self.folder / "zoo.cfg"
        settings = {
            "tickTime": 500, "dataDir": self.folder / "data/zookeeper", "clientPort": port, "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
        }  # fmt: skip
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return self.daemon("zookeeper", "org.apache.zookeeper.server.ZooKeeperServerMain", str(file), heap_mb=_HEAP_MB)

    def _journalnode(self, n: int, rpc: int, http: int) -> Daemon:
        settings = {
            "dfs.journalnode.edits.dir": self.folder / f"data/journal-{n}",
            "dfs.journalnode.rpc-address": f"127.0.0.1:{rpc}", "dfs.journalnode.http-address": f"127.0.0.1:{http}",
        }  # fmt: skip
        arguments = [word for name, value in settings.items() for word in ("-D", f"{name}={value}")]
        main = f"{_HDFS}.qjournal.server.JournalNode"
        return self.daemon(f"journalnode-{n}", main, *arguments, heap_mb=_HEAP_MB)


def _fence(folder: Path) -> str:
    """Ends the NameNode that was active before the other one may be, as sshfence does: one that hangs keeps its clients."""
    return f"pkill -KILL -f '{folder}/conf.*NameNode -D dfs.ha.namenode.id='$target_namenodeid || true"


def _own(name: str) -> tuple[str, str]:
    """Which of the NameNodes a process is, or stands beside."""
    return "-D", f"dfs.ha.namenode.id={name}"
