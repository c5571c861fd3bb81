"""Hadoop's configuration files, and the command line of its Java classes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

_LOGGING = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
"""
_FLAGS = (
    "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
    "--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
)  # fmt: skip


def write_site(conf: Path, name: str, settings: Mapping[str, object]) -> None:
    """`conf`/`name`.xml."""
    lines = [f"<property><name>{name}</name><value>{escape(str(value))}</value></property>" for name, value in settings.items()]
    (conf / f"{name}.xml").write_text("\n".join(["<configuration>", *lines, "</configuration>", ""]))


def make_conf(folder: Path) -> Path:
    """A configuration directory for clients and daemons, without settings yet."""
    conf = folder / "conf"
    conf.mkdir(parents=True)
    (conf / "log4j.properties").write_text(_LOGGING)
    return conf


def java_home() -> str:
    """The home of the Java that is found by JAVA_HOME or on the PATH."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java")
    assert home or java, "no Java: install one of 17 or newer, or set JAVA_HOME"
    return home or str(Path(java or "").resolve().parents[1])


def java(
    main: str, arguments: Sequence[str | Path], classpath: Sequence[str | Path], heap_mb: int, options: Sequence[str] = ()
) -> list[str | Path]:
    """A command that runs the class `main`; `options` are the JVM's."""
    joined = ":".join(map(str, classpath))
    return [Path(java_home(), "bin/java"), f"-Xmx{heap_mb}m", *_FLAGS, *options, "-cp", joined, main, *arguments]
