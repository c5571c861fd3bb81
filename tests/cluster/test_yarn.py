"""Jobs on a real YARN by `./spark-submit.sh --master yarn`: both modes, what travels, what is left to look at, and failures."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import urllib.request
from pathlib import Path

import pytest

from shardwright import open_dataset
from shardwright.format.versions import read_manifest
from shardwright.spark.shipping import spark_home
from shardwright.storage import open_writable
from tests.cluster.configuration import java
from tests.cluster.daemon import Daemon, wait_until
from tests.cluster.hdfs import USER, Hdfs
from tests.cluster.submitted import submit
from tests.cluster.yarn import Yarn
from tests.conftest import SAMPLES
from tests.processes import free_ports

pytestmark = pytest.mark.usefixtures("yarn")

OWN = '''
"""A function of a team: scales by a number that lies in an archive of the team."""

from pathlib import Path


def scale(batch):
    return {"label": batch["label"] * int(Path("mine/factor.txt").read_text())}
'''
CONFIG = """
name = "mnist"
[read]
format = "idx"
path = "{path}"
[[map]]
function = "own:scale"
[shard]
count = 3
remainder = "spread"
"""


@pytest.fixture(scope="module")
def digits(hdfs: Hdfs) -> str:
    """2,000 digits on HDFS."""
    storage = open_writable(hdfs.new_folder("mnist"))
    storage.make_directory()
    for path in sorted((SAMPLES / "mnist").iterdir()):
        storage.write(path.name, path.read_bytes())
    return storage.url


@pytest.fixture(scope="module")
def prepared(hdfs: Hdfs, digits: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, subprocess.CompletedProcess[str]]:
    """A dataset made in cluster mode, with a module and an archive of the user's own, by the cluster's first job."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    (folder / "factor.txt").write_text("3\n")
    (folder / "own.toml").write_text(CONFIG.format(path=digits))
    with tarfile.open(folder / "mine.tar.gz", "w:gz") as archive:
        archive.add(folder / "factor.txt", "factor.txt")
    output = hdfs.new_folder("prepared")
    mine = ["--py-files", str(folder / "own.py"), "--archives", f"{folder / 'mine.tar.gz'}#mine"]
    done = submit("--deploy-mode", "cluster", *mine, "jobs/prepare.py", str(folder / "own.toml"), "--output", output)
    assert done.returncode == 0, done.stderr
    return output, done


def test_cluster_mode(hdfs: Hdfs, yarn: Yarn, prepared: tuple[str, subprocess.CompletedProcess[str]]) -> None:
    """All that the job needs was kept on HDFS by the first start that needed it; what it printed is in YARN's log."""
    url, done = prepared
    (application,) = set(re.findall(r"application_\w+", done.stderr))
    assert f"{application} is done; what it printed: yarn logs -applicationId {application} -log_files stdout" in done.stderr
    log = yarn.log(application)
    assert f"{url} v000001: the first version" in log
    assert "Traceback" not in log
    assert "Warning" not in log
    kept = open_writable(f"{hdfs.url}/user/{USER}/.shardwright").names()
    assert [name.split("-")[0] for name in kept] == ["environment", "events", "spark"]
    assert done.stderr.count("uploaded Spark") == 1

    labels = open_dataset(url, split="train").take(range(2000))["label"]
    assert (len(labels), set(labels % 3), labels.max()) == (2000, {0}, 27)
    provenance = read_manifest(open_writable(url))[1].provenance
    assert provenance.user == USER
    assert provenance.job == {"application": application, "deploy_mode": "cluster", "master": "yarn"}


def test_client_mode(prepared: tuple[str, subprocess.CompletedProcess[str]]) -> None:
    """The result comes on standard output; nothing is uploaded a second time."""
    done = submit("jobs/verify.py", prepared[0], "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["problems"] == []
    assert "upload" not in done.stderr
    assert re.search(r"application_\w+ runs", done.stderr)


def test_the_history_server_reads_the_event_logs(
    hdfs: Hdfs, prepared: tuple[str, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    events = f"{hdfs.url}/user/{USER}/.shardwright/events"
    settings = {"spark.history.fs.logDirectory": events, "spark.history.ui.port": port}
    command = java("org.apache.spark.deploy.history.HistoryServer", [], [hdfs.conf, f"{spark_home()}/jars/*"], 512)
    command[1:1] = [f"-D{key}={value}" for key, value in settings.items()]
    environment = {**hdfs.environment, "SPARK_LOCAL_IP": "127.0.0.1", "PATH": "/usr/bin:/bin"}
    server = Daemon("history", command, environment, tmp_path / "history.log")
    server.start()
    (application,) = set(re.findall(r"application_\w+", prepared[1].stderr))

    def known() -> dict[str, bool]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/applications", timeout=5) as answer:
                return {one["id"]: one["attempts"][0]["completed"] for one in json.load(answer)}
        except OSError:
            return {}

    try:
        wait_until(lambda: known().get(application) is True, f"{application} in the history", 90, [server])
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/api/v1/applications/{application}/1/stages", timeout=60
        ) as answer:
            assert {stage["status"] for stage in json.load(answer)} <= {"COMPLETE", "SKIPPED"}
    finally:
        server.stop()


def test_a_failure_in_cluster_mode_is_told(hdfs: Hdfs, yarn: Yarn) -> None:
    """A code that is not 0, the application's id, and the error in its log, once: YARN does not try again."""
    output = hdfs.new_folder("none")
    words = ["conf/datasets/mnist.toml", "--set", f"read.path={output}/missing", "--output", output]
    done = submit("--deploy-mode", "cluster", "jobs/prepare.py", *words)
    assert done.returncode == 1
    (application,) = set(re.findall(r"application_\w+", done.stderr))
    assert f"{application} ended as FAILED; what it printed: yarn logs -applicationId {application}" in done.stderr
    assert "at org.apache.spark" not in done.stderr
    told = re.findall(r"^error: .*", yarn.log(application), re.MULTILINE)
    assert len(told) == 1
    assert f"{output}/missing" in told[0]


def test_an_error_on_an_executor_is_told_as_on_one_machine(hdfs: Hdfs, digits: str) -> None:
    """Pictures cut short, which only a task finds out: one line, and code 1."""
    source, short = open_writable(digits), open_writable(hdfs.new_folder("short"))
    short.make_directory()
    for name in source.names():
        data = source.read(name)
        short.write(name, data[: len(data) // 2] if name.startswith("images") else data)
    output = hdfs.new_folder("none")
    done = submit("jobs/prepare.py", "conf/datasets/mnist.toml", "--set", f"read.path={short.url}", "--output", output)
    assert done.returncode == 1, done.stderr
    (told,) = re.findall(r"^error: .*", done.stdout + done.stderr, re.MULTILINE)
    assert re.search(rf"{short.url}/images\S+: expected 1568000 bytes of values .*, found damage", told)
    assert open_writable(output).names() in ([], ["_staging"])
