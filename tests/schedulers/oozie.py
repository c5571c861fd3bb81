"""A real Oozie server on a test cluster's HDFS and YARN."""

from __future__ import annotations

import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from shardwright.storage import HdfsStorage
from tests.cluster.configuration import java, write_site
from tests.cluster.daemon import Daemon, wait_until
from tests.cluster.hdfs import USER, Hdfs
from tests.cluster.jars import jars_of
from tests.cluster.yarn import Yarn
from tests.processes import free_ports
from tests.schedulers.oozie_client import OozieClient

POM = Path(__file__).parent / "oozie" / "pom.xml"
SERVER = "oozie"
"""Whose name the server has towards Hadoop."""
PROXY = {f"hadoop.proxyuser.{SERVER}.{what}": "*" for what in ("hosts", "groups")}
"""What core-site.xml has to say, so that the server may act for those who submit."""

_HEAP_MB = 384
_LAUNCHER = ("oozie-sharelib-oozie", "hadoop-mapreduce-client-core", "hadoop-mapreduce-client-common")
"""What a launcher needs in its container over Hadoop's jars; of a real cluster these are MapReduce's."""
_LOGGING = """\
log4j.rootLogger=WARN,oozie
log4j.logger.org.apache.oozie=INFO
log4j.appender.oozie=org.apache.log4j.DailyRollingFileAppender
log4j.appender.oozie.File=${oozie.log.dir}/oozie.log
log4j.appender.oozie.DatePattern='.'yyyy-MM-dd
log4j.appender.oozie.layout=org.apache.log4j.PatternLayout
log4j.appender.oozie.layout.ConversionPattern=%d{ISO8601} %5p %c{1}:%L - SERVER[${oozie.instance.id}] %m%n
"""


def oozie_version() -> str:
    """The version of the server."""
    return ET.fromstring(POM.read_text()).findtext("{*}properties/{*}oozie.version", "")


def jar_of(name: str) -> Path:
    """One of the jars that the server's class path is made of."""
    (found,) = jars_of("oozie", POM).glob(f"{name}-[0-9]*.jar")
    return found


class Oozie(OozieClient):
    """The server; `hdfs` has `PROXY` among its settings. `password`: that of its database."""

    def __init__(self, hdfs: Hdfs, yarn: Yarn, password: str) -> None:
        (port,) = free_ports(1)
        super().__init__(f"http://127.0.0.1:{port}/oozie", USER)
        self.hdfs, self.yarn = hdfs, yarn
        self.folder = hdfs.folder / "oozie"
        self.log = hdfs.logs / "oozie" / "oozie.log"
        conf = self.folder / "conf"
        for folder in (
            conf / "action-conf",
            self.folder / "web" / "webapp",
            self.folder / "data",
            self.folder / "tmp",
            self.log.parent,
        ):
            folder.mkdir(parents=True)
        (conf / "oozie-log4j.properties").write_text(_LOGGING)
        write_site(conf / "action-conf", "default", {})
        write_site(conf, "oozie-site", {**self._settings(port), "oozie.service.JPAService.jdbc.password": password})
        self._made = time.strftime("lib_%Y%m%d%H%M%S", time.gmtime())
        self._daemon = self._server(conf)

    @property
    def sharelib(self) -> str:
        """The hdfs:// URL of the share libraries."""
        return f"{self.hdfs.url}/user/{USER}/share/lib"

    def start(self) -> None:
        """Put the jars of launchers on HDFS, start, and wait until jobs are taken. Takes about 10 s."""
        self.share("oozie", [jar_of(name) for name in _LAUNCHER])
        self._daemon.start()
        wait_until(lambda: self.mode() == "NORMAL", "Oozie takes jobs", 120, [self._daemon])

    def share(self, kind: str, files: Iterable[Path]) -> None:
        """Put files into the share library of a kind of action; a server that runs is told by `update_sharelib`."""
        storage = HdfsStorage(f"{self.sharelib}/{self._made}/{kind}")
        storage.make_directory()
        for path in files:
            storage.write(path.name, path.read_bytes())

    def stop(self) -> None:
        """Kill -9: one that could not start has threads that never end. What it runs is YARN's."""
        self._daemon.kill()

    def _server(self, conf: Path) -> Daemon:
        places = {"home": self.folder, "config": conf, "log": self.log.parent, "data": self.folder / "data"}
        flags = {
            **{f"oozie.{name}.dir": place for name, place in places.items()},
            "oozie.config.file": "oozie-site.xml",
            "oozie.log4j.file": "oozie-log4j.properties",
            "oozie.log4j.reload": 10,
            "derby.stream.error.file": self.log.parent / "derby.log",
            "java.io.tmpdir": self.folder / "tmp",
        }
        classpath: list[str | Path] = [conf, self.folder / "web", f"{jars_of('oozie', POM)}/*"]
        command = java("org.apache.oozie.server.EmbeddedOozieServer", [], classpath, _HEAP_MB)
        command[1:1] = [f"-D{name}={value}" for name, value in flags.items()]
        command.insert(1, "--add-opens=java.base/java.net=ALL-UNNAMED")
        environment = {**os.environ, **self.hdfs.environment, **self.hdfs.mark, "HADOOP_USER_NAME": SERVER}
        return Daemon("oozie", command, environment, self.hdfs.logs / "oozie.log")

    def _settings(self, port: int) -> dict[str, object]:
        soon = {  # seconds; by default minutes
            "ActionCheckerService.action.check.interval": 5,
            "ActionCheckerService.action.check.delay": 5,
            "CoordMaterializeTriggerService.lookup.interval": 5,
            "CoordMaterializeTriggerService.scheduling.interval": 5,
            "StatusTransitService.statusTransit.interval": 5,
            "RecoveryService.interval": 10,
            "coord.input.check.requeue.interval": 2000,
        }
        return {
            "oozie.http.hostname": "127.0.0.1",
            "oozie.http.port": port,
            "oozie.base.url": self.url,
            "oozie.service.JPAService.create.db.schema": "true",
            "oozie.service.JPAService.jdbc.driver": "org.apache.derby.jdbc.EmbeddedDriver",
            "oozie.service.JPAService.jdbc.url": f"jdbc:derby:{self.folder / 'data/db'};create=true",
            "oozie.service.HadoopAccessorService.hadoop.configurations": f"*={self.hdfs.conf}",
            "oozie.service.WorkflowAppService.system.libpath": urlsplit(self.sharelib).path,
            "oozie.service.coord.check.maximum.frequency": "false",  # tests can't wait for more than a minute
            **{f"oozie.service.{name}": value for name, value in soon.items()},
        }
