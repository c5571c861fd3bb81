"""`shardwright doctor` on machines with a Hadoop configuration that is whole, half, or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardwright.cli.hadoop import hadoop
from shardwright.cli.output import Finding
from tests.processes import free_ports


def write(directory: Path, name: str, settings: dict[str, str]) -> None:
    properties = [f"<property><name>{key}</name><value>{value}</value></property>" for key, value in settings.items()]
    (directory / name).write_text(f"<configuration>{''.join(properties)}</configuration>")


@pytest.fixture
def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is found with these settings in core-site.xml, and other files beside it."""
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("HADOOP_USER_NAME", "ada")

    def found(settings: dict[str, str] | None, *others: str) -> dict[str, Finding]:
        if settings is not None:
            write(tmp_path, "core-site.xml", settings)
        for name in others:
            write(tmp_path, name, {})
        return {finding.about: finding for finding in hadoop()}

    return found


def test_a_machine_without_a_cluster_is_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HADOOP_CONF_DIR", "HADOOP_HOME"):
        monkeypatch.delenv(name, raising=False)
    (finding,) = hadoop()
    assert (finding.level, finding.found) == ("ok", "not set")


def test_a_directory_that_is_no_configuration(findings, tmp_path: Path) -> None:
    (finding,) = findings(None).values()
    assert (finding.level, finding.found) == ("problem", f"{tmp_path} has no core-site.xml")


def test_a_name_node_that_does_not_answer(findings) -> None:
    (port,) = free_ports(1)
    found = findings({"fs.defaultFS": f"hdfs://127.0.0.1:{port}"}, "hdfs-site.xml", "yarn-site.xml")
    assert {about: finding.level for about, finding in found.items()} == {
        "HADOOP_CONF_DIR": "ok", "Hadoop's user": "ok", "fs.defaultFS": "problem",
    }  # fmt: skip
    assert found["Hadoop's user"].found == "ada (HADOOP_USER_NAME)"
    assert f"can't reach hdfs://127.0.0.1:{port}" in found["fs.defaultFS"].found


def test_half_a_configuration(findings) -> None:
    found = findings({"fs.defaultFS": "s3a://bucket", "hadoop.security.authentication": "kerberos"}, "hdfs-site.xml")
    assert found["HADOOP_CONF_DIR"].level == "warning"
    assert found["HADOOP_CONF_DIR"].advice.startswith("yarn-site.xml: copy it")
    assert "Kerberos" in found["Hadoop's user"].found
    assert (found["fs.defaultFS"].level, found["fs.defaultFS"].found) == ("ok", "s3a://bucket, not HDFS")


def test_a_file_that_is_no_xml(findings, tmp_path: Path) -> None:
    (tmp_path / "core-site.xml").write_text("<configuration>")
    found = findings(None, "hdfs-site.xml", "yarn-site.xml")
    assert "can't read Hadoop's configuration" in found["HADOOP_CONF_DIR"].found
