"""Archives that jobs take to a cluster: what they hold, their names, and that they are made once."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import shardwright
from shardwright.errors import StorageError
from shardwright.spark import shipping
from shardwright.spark.shipping import Archives, code_zip, environment_name


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with one package, as this process's."""
    packages = tmp_path / "environment/lib/site-packages"
    for name in ("one/__init__.py", "one/tests/test_one.py", "one-1.0.dist-info/METADATA", "pyspark/__init__.py",
                 "pyspark-4.3.0.dist-info/METADATA", "pip/__init__.py", "pip-25.0.dist-info/METADATA"):  # fmt: skip
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(f"name = {name!r}\n")
    (tmp_path / "environment/requirements.txt").write_text("one==1.0\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(packages)})
    return tmp_path / "environment"


def test_an_environment_is_packed_once(prefix: Path, tmp_path: Path) -> None:
    said: list[str] = []
    archives = Archives(str(tmp_path / "kept"), said.append)
    path = Path(archives.environment())
    assert path.parent == tmp_path / "kept"
    with tarfile.open(path) as archive:
        names = sorted(entry.name for entry in archive if entry.isfile())
        assert names == ["one-1.0.dist-info/METADATA", "one/__init__.py", "pyspark-4.3.0.dist-info/METADATA"]
        assert {(entry.uid, entry.uname) for entry in archive} == {(0, "")}
        packed = archive.getmember("one/__init__.py").mtime
    assert packed == int((prefix / "lib/site-packages/one/__init__.py").stat().st_mtime)  # compiled bytecode stays valid
    assert len(said) == 2
    before = path.stat().st_mtime_ns
    assert archives.environment() == str(path)
    assert (len(said), path.stat().st_mtime_ns, list(path.parent.iterdir())) == (2, before, [path])


def test_the_first_of_two_uploads_stays(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = Archives(str(tmp_path), lambda text: None)

    def pack(path: Path) -> None:
        path.write_bytes(b"mine")
        (tmp_path / name).write_bytes(b"theirs")  # another start ends meanwhile

    monkeypatch.setattr(shipping, "_pack_environment", pack)
    name = environment_name(prefix)
    assert Path(archives.environment()).read_bytes() == b"theirs"
    assert not list(tmp_path.glob(".environment*"))


def test_other_requirements_have_another_name(prefix: Path) -> None:
    before = environment_name(prefix)
    assert environment_name(prefix) == before
    assert before.startswith("environment-py{}.{}-{}-".format(*sys.version_info[:2], sys.platform))
    (prefix / "requirements.txt").write_text("one==1.1\n")
    assert environment_name(prefix) != before
    (prefix / "requirements.txt").unlink()
    with pytest.raises(StorageError, match=r"expected an environment that spark-submit\.sh made, found none in .*/environment"):
        environment_name(prefix)


def test_spark_is_a_zip_of_its_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spark/jars").mkdir(parents=True)
    for name in ("b.jar", "a.jar", "README"):
        (tmp_path / "spark/jars" / name).write_text(name)
    monkeypatch.setattr(shipping, "spark_home", lambda: tmp_path / "spark")
    with zipfile.ZipFile(Archives(str(tmp_path), lambda text: None).spark()) as archive:
        assert archive.namelist() == ["a.jar", "b.jar"]


def test_the_code_runs_from_its_zip(tmp_path: Path) -> None:
    """Named by content, the same bytes each time, complete."""
    first, second = code_zip(tmp_path / "a"), code_zip(tmp_path / "b")
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    program = "import shardwright; from shardwright.reader import open; print(shardwright.__version__, shardwright.__path__[0])"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(first)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == [shardwright.__version__, f"{first}/shardwright"], done.stderr
