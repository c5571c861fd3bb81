"""`shardwright doctor`: what it finds on this machine, and in datasets that are damaged in known ways."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tomllib

import pytest

from shardwright.cli import main
from shardwright.cli.environment import EXTRAS, PACKAGES, environment
from shardwright.cli.health import health
from tests.conftest import ROOT
from tests.datasets import digits, publish


@pytest.fixture
def root(tmp_path):
    for number in (1, 2):
        publish(tmp_path / "d", {"train": digits(16, number)}, shards=2, version=f"v{number:06d}")
    return tmp_path / "d"


def found(findings, about):
    return next(finding for finding in findings if finding.about == about)


def test_the_lowest_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def bounds(requirements):
        return dict(pair for text in requirements for pair in re.findall(r"^([\w-]+)>=([\d.]+)", text))

    assert bounds(project["dependencies"]) == PACKAGES
    for extra, packages in EXTRAS.items():
        assert bounds(project["optional-dependencies"][extra]) == packages


def test_this_machine_is_fit():
    findings = list(environment())
    assert [finding for finding in findings if finding.level == "problem" and finding.about != "PYSPARK_PYTHON"] == []
    for about in ("Python", "numpy", "Java", "cores", "memory", "disk for cache", "encoding"):
        assert found(findings, about).found


def test_variables_that_lead_spark_astray(monkeypatch, tmp_path):
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars/spark-core_2.12-3.5.1.jar").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    monkeypatch.setenv("PYSPARK_PYTHON", str(tmp_path / "python"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    findings = list(environment())
    assert re.search(r"is Spark 3.5.1, pyspark is 4\.", found(findings, "SPARK_HOME").found)
    assert found(findings, "PYSPARK_PYTHON").found == f"{tmp_path / 'python'} does not run"
    assert found(findings, "Java").found == f"{tmp_path / 'bin/java'} does not run"
    assert {found(findings, about).level for about in ("SPARK_HOME", "PYSPARK_PYTHON", "Java")} == {"problem"}


def test_workers_python_needs_the_packages(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')  # without site-packages
    python.chmod(0o755)
    monkeypatch.setenv("PYSPARK_PYTHON", str(python))
    finding = found(environment(), "PYSPARK_PYTHON")
    assert finding.level == "problem"
    assert finding.found.endswith("can't import numpy, pandas, pyarrow, xxhash")
    assert finding.advice.endswith(f"set it to {sys.executable}")


def test_the_python3_of_another_environment(monkeypatch, tmp_path):
    """The python of a virtual environment links to the one that it was made with, which lacks the packages."""
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(environment(), "PYSPARK_PYTHON").level == "warning"


def test_a_full_disk(monkeypatch):
    def full():
        raise FileNotFoundError("No usable temporary directory found in ['/tmp']")

    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", full)
    finding = found(environment(), "disk for temporary files")
    assert (finding.level, finding.found) == ("problem", "No usable temporary directory found in ['/tmp']")
    assert "set TMPDIR" in finding.advice


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"[]", b'{"version": "../x", "content_id": "1"}'])
def test_a_garbled_latest(root, garbage):
    (root / "_LATEST").write_bytes(garbage)
    finding = found(health(str(root)), "_LATEST")
    assert finding.level == "problem"
    assert finding.advice == "run the job that made v000002 again: it writes _LATEST, and nothing else"


def test_a_latest_that_is_a_directory_and_a_dataset_that_is_a_file(root, tmp_path):
    (root / "_LATEST").unlink()
    (root / "_LATEST").mkdir()
    findings = list(health(str(root)))
    assert "Is a directory" in found(findings, "_LATEST").found
    assert found(findings, "v000002").level == "ok"
    (tmp_path / "file").touch()
    assert [finding.found for finding in health(str(tmp_path / "file"))] == ["no dataset: there is no version"]


def test_a_healthy_dataset(root):
    findings = list(health(str(root)))
    assert {finding.level for finding in findings} == {"ok"}
    assert found(findings, "v000002").found.startswith("format 2, 16 samples, 7 files, ")
    assert found(findings, "_LATEST").found == "v000002"


def test_everything_that_can_be_wrong(root):
    (root / "_LATEST").write_text((root / "_LATEST").read_text().replace("v000002", "v000001"))
    (root / "v000001/train/shard=00001/part-00000.parquet").unlink()
    (root / "v000003").mkdir()
    manifest = json.loads((root / "v000002/_manifest.json").read_text())
    (root / "v000002/_manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    for name, hours in (("old", 30), ("new", 1)):
        (root / "_staging" / name).mkdir(parents=True)
        then = time.time() - hours * 3600
        os.utime(root / "_staging" / name, (then, then))
    (root / "_LOCK").write_text("{}")
    os.utime(root / "_LOCK", (0, 0))
    findings = list(health(str(root)))
    shown = {finding.about: (finding.level, finding.found) for finding in findings}
    assert shown["_LATEST"] == ("warning", "names v000001, v000002 is newer")
    assert shown["v000001"][1] == "1 files missing or of another size: train/shard=00001/part-00000.parquet"
    assert shown["v000002"][0] == "problem"
    assert "format_version 99 is newer than" in shown["v000002"][1]
    assert shown["v000003"] == ("warning", "no manifest: this version does not exist")
    assert shown["_staging/old"] == ("warning", "0 bytes, 30.0 hours old")
    assert shown["_staging/new"] == ("ok", "0 bytes, 1.0 hours old")
    assert shown["_LOCK"] == ("warning", "stale: its owner is gone")
    assert (root / "_LOCK").exists()  # looking changes nothing


def test_the_verb(capsys, root, tmp_path):
    for url, code, text in ((root, (0, 1), "v000002: format"), (tmp_path / "none", (1,), "no dataset: there is no version")):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", str(url)])
        out = capsys.readouterr().out
        assert ended.value.code in code
        assert text in out
        assert re.search(r"\d+ ok, \d+ warnings, \d+ problems$", out)
    with pytest.raises(SystemExit):
        main(["doctor", str(root), "--json"])
    assert {finding["level"] for finding in json.loads(capsys.readouterr().out)} <= {"ok", "warning", "problem"}
