"""A real YARN on an HDFS: ResourceManager and NodeManager."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.cluster.configuration import write_site
from tests.cluster.daemon import MARK, Daemon, wait_until
from tests.cluster.guard import marked
from tests.cluster.hdfs import Hdfs
from tests.processes import free_ports

_YARN = "org.apache.hadoop.yarn.server"
_HEAP_MB = 256
MEMORY_MB = 7168
CORES = 8
"""What each node offers."""

_RESOURCEMANAGER = ("address", "scheduler.address", "resource-tracker.address", "admin.address", "webapp.address")
_NODEMANAGER = ("address", "localizer.address", "webapp.address")


@dataclass(frozen=True)
class Process:
    """A Java process of a Spark job in a container. `number` is that of the executor, None for an application master."""

    pid: int
    kind: Literal["master", "executor"]
    number: int | None
    command: str


class Yarn:
    """ResourceManager and NodeManagers; their settings are added to the configuration directory of `hdfs`.

    NodeManager n is the host 127.0.0.n, as DataNode n is: Spark never runs two attempts of a task on one host.
    """

    def __init__(self, hdfs: Hdfs, *, nodes: int = 2, yarn: Mapping[str, object] | None = None) -> None:
        self.hdfs = hdfs
        addresses = dict(zip(_RESOURCEMANAGER, free_ports(len(_RESOURCEMANAGER)), strict=True))
        self.http = f"http://127.0.0.1:{addresses['webapp.address']}"
        own = {f"yarn.resourcemanager.{name}": f"127.0.0.1:{port}" for name, port in addresses.items()}
        self.settings: dict[str, object] = {
            **own,
            **self._yarn(),
            **(hdfs.kerberos.yarn() if hdfs.kerberos else {}),
            **(yarn or {}),
        }
        write_site(hdfs.conf, "yarn-site", self.settings)
        write_site(hdfs.conf, "capacity-scheduler", _SCHEDULER)
        self.resourcemanager = hdfs.daemon("resourcemanager", f"{_YARN}.resourcemanager.ResourceManager", heap_mb=_HEAP_MB)
        self.nodemanagers = [self._node(n) for n in range(1, nodes + 1)]

    @property
    def containers(self) -> Path:
        """The logs of containers: application_…/container_…/{stdout,stderr}."""
        return self.hdfs.logs / "containers"

    def start(self) -> None:
        """Start all, and wait until the nodes are there. Takes about 10 s."""
        daemons = [self.resourcemanager, *self.nodemanagers]
        for daemon in daemons:
            daemon.start()
        nodes = len(self.nodemanagers)
        wait_until(lambda: self.get("metrics").get("activeNodes") == nodes, f"{nodes} nodes that YARN knows", 90, daemons)

    def stop(self) -> None:
        """End all; applications first, with the processes of their containers."""
        for application in self.applications("RUNNING,ACCEPTED"):
            self.kill(application)
        for daemon in (*self.nodemanagers, self.resourcemanager):
            daemon.kill()  # a NodeManager that is asked to stop waits 7 s for applications that have ended

    def get(self, what: str) -> dict[str, Any]:
        """An answer of the ResourceManager's REST API: "metrics", "apps", "apps/application_…"; {} while it is not there."""
        try:
            (inner,) = json.loads(self.hdfs.fetch(f"{self.http}/ws/v1/cluster/{what}")).values()
        except (OSError, ValueError):
            return {}
        return dict(inner or {})

    def applications(self, states: str = "") -> list[str]:
        """The ids of applications, the oldest first; those in some states ("RUNNING,ACCEPTED") or all."""
        found = self.get(f"apps?states={states}" if states else "apps").get("app", [])
        return [one["id"] for one in sorted(found, key=lambda one: one["startedTime"])]

    def kill(self, application: str) -> None:
        """End an application, and wait until its processes are gone."""
        who = "" if self.hdfs.kerberos else "?user.name=hdfs"
        state = f"{self.http}/ws/v1/cluster/apps/{application}/state{who}"
        self.hdfs.fetch(state, "PUT", data=b'{"state": "KILLED"}', seconds=30)
        wait_until(lambda: not self.processes(application), f"the end of {application}'s processes")

    def processes(self, application: str) -> list[Process]:
        """The Java processes of an application's containers."""
        found = []
        for pid, command in sorted(marked(f"{MARK}={self.hdfs.folder}".encode()).items()):
            words = command.split()
            if not words or os.path.basename(words[0]) != "java" or application not in command:
                continue
            if "--executor-id" in words:
                found.append(Process(pid, "executor", int(words[words.index("--executor-id") + 1]), command))
            elif "org.apache.spark.deploy.yarn" in command:
                found.append(Process(pid, "master", None, command))
        return found

    def log(self, application: str) -> str:
        """What all containers of an application have printed."""
        files = sorted((self.containers / application).glob("*/std*"))
        return "".join(f"\n== {file.parent.name} {file.name}\n{file.read_text(errors='replace')}" for file in files)

    def _node(self, n: int) -> Daemon:
        host = f"127.0.0.{n}"
        settings = {
            "yarn.nodemanager.hostname": host,
            "yarn.nodemanager.local-dirs": self.hdfs.folder / f"local/{n}",
            **{f"yarn.nodemanager.{name}": f"{host}:{port}" for name, port in zip(_NODEMANAGER, free_ports(3), strict=True)},
        }
        arguments = [word for name, value in settings.items() for word in ("-D", f"{name}={value}")]
        return self.hdfs.daemon(f"nodemanager-{n}", f"{_YARN}.nodemanager.NodeManager", *arguments, heap_mb=_HEAP_MB)

    def _yarn(self) -> dict[str, object]:
        return {
            "yarn.resourcemanager.hostname": "127.0.0.1",
            "yarn.nodemanager.log-dirs": self.containers,
            "yarn.nodemanager.resource.memory-mb": MEMORY_MB,
            "yarn.nodemanager.resource.cpu-vcores": CORES,
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 99.5,
            "yarn.nodemanager.env-whitelist": f"JAVA_HOME,HADOOP_CONF_DIR,PATH,LANG,TZ,KRB5_CONFIG,{MARK}",
            "yarn.nodemanager.heartbeat.interval-ms": 200,
            "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": 200,
            "yarn.scheduler.minimum-allocation-mb": 128,
            "yarn.scheduler.maximum-allocation-mb": 4096,
            "yarn.application.classpath": ",".join(map(str, self.hdfs.classpath)),
        }


_SCHEDULER = {
    "yarn.scheduler.capacity.root.queues": "default",
    "yarn.scheduler.capacity.root.default.capacity": 100,
    "yarn.scheduler.capacity.maximum-am-resource-percent": 0.6,
    "yarn.scheduler.capacity.per-node-heartbeat.multiple-assignments-enabled": "false",  # so containers come to all nodes
}
