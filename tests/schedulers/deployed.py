"""conf/oozie as docs/oozie.md says that it is deployed, on a test cluster, for small jobs."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from shardwright.storage import HdfsStorage
from tests.cluster.submitted import on_yarn
from tests.conftest import ROOT
from tests.schedulers.oozie import Oozie

FILES = ROOT / "conf" / "oozie"
PACKED = ("conf", "jobs", "lib", "spark-submit.sh", "pyproject.toml", "requirements.lock")
"""What docs/oozie.md packs as shardwright.zip."""


def job_properties() -> dict[str, str]:
    """conf/oozie/job.properties as Oozie's command line sends them: `${…}` in them is the server's to resolve."""
    lines = (FILES / "job.properties").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def deploy(oozie: Oozie, folder: Path) -> dict[str, str]:
    """Put all on HDFS; the properties with what is this cluster's in place of the example's."""
    app = HdfsStorage(oozie.hdfs.new_folder("app"))
    app.make_directory()
    project, code = folder / "shardwright.zip", folder / "code.zip"
    pack(project, ROOT, [path for name in PACKED for path in _files(ROOT / name)])
    pack(code, ROOT / "lib", _files(ROOT / "lib"))
    for path in (project, code, ROOT / "jobs/prepare.py", ROOT / "jobs/verify.py", *sorted(FILES.iterdir())):
        app.write(path.name, path.read_bytes())
    app.write("mnist.toml", (ROOT / "conf/datasets/mnist.toml").read_bytes())
    return {
        **job_properties(),
        "nameNode": oozie.hdfs.url,
        "resourceManager": str(oozie.yarn.settings["yarn.resourcemanager.address"]),
        "app": app.url,
        "cache": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "launcherMemory": "2048",
        "sparkOptions": _small(),
    }


def pack(archive: Path, root: Path, files: list[Path]) -> None:
    """A zip of these files under `root`, as `git archive` makes it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in files:
            zipped.write(path, path.relative_to(root))


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [one for one in found if one.is_file() and "__pycache__" not in one.parts]


def _small() -> str:
    """What jobs on one small machine need, quoted as both spark-submit's shell and Oozie's spark action take it."""
    settings = [word.removeprefix("--conf=") for word in on_yarn() if word.startswith("--conf=")]
    return " ".join(f'--conf "{setting}"' for setting in [*settings, "spark.driver.host=127.0.0.1"])
