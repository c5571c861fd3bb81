"""A secure cluster: who has a ticket, a keytab or a token works; who has none, or an expired one, is told what to do."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardwright as sw
from shardwright.format.layout import MANIFEST
from shardwright.format.versions import read_manifest
from shardwright.reader.verify import verify
from shardwright.storage import open_writable
from tests.cluster.conftest import started
from tests.cluster.datasets import put
from tests.cluster.fault_report import Record, write_report
from tests.cluster.guard import marked
from tests.cluster.ha import HaHdfs
from tests.cluster.hdfs import USER, Hdfs
from tests.cluster.kerberos import REALM, Kdc
from tests.cluster.kerberos_programs import python_packages
from tests.cluster.submitted import Job, on_yarn
from tests.cluster.yarn import Yarn
from tests.conftest import ROOT, SAMPLES
from tests.datasets import digits, publish

_TITLE = "# A secure cluster"
_TEXT = """
HDFS and YARN with a Kerberos realm of their own: SASL on block transfers, block and delegation tokens, SPNEGO for HTTP. Seconds
are those of the job, or from the ticket's end to the end of the epoch.
"""
_FETCH = "org.apache.hadoop.hdfs.tools.DelegationTokenFetcher"
_EPOCH = """
import json, sys
from pathlib import Path
import shardwright as sw
from shardwright.storage import hdfs_client
url, state = sys.argv[1], Path(sys.argv[2])
train = sw.open_dataset(url, split="train")
loader = train.loader(batch_size=20, seed=7, threads=0)
if state.exists():
    loader.load_state_dict(json.loads(state.read_text()))
for number, batch in enumerate(loader):
    print(len(batch["label"]), flush=True)
    state.write_text(json.dumps(loader.state_dict()))
    if number == 0:
        sys.stdin.readline()
    hdfs_client._CONNECTIONS.clear()  # as a worker that begins now: it needs a ticket of its own
    sw.open_dataset(url, split="train").take([0])
"""
"""An epoch in which each batch logs in anew."""


@pytest.fixture(scope="module")
def kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    realm = Kdc(tmp_path_factory.mktemp("realm") / "kdc")
    realm.start()
    yield realm
    left = realm.stop()
    assert not left, left


@pytest.fixture(scope="module")
def secure(kdc: Kdc, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Hdfs]:
    soon = {"dfs.namenode.delegation.token.renew-interval": 30_000}  # ms: jobs outlive their tokens, unless YARN renews them
    with started(Hdfs(tmp_path_factory.mktemp("secure"), kerberos=kdc, hdfs=soon), request) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def records(request: pytest.FixtureRequest) -> Iterator[list[Record]]:
    failed = request.session.testsfailed
    found: list[Record] = []
    yield found
    if request.session.testsfailed == failed and request.config.getoption("keyword") == "":  # of a whole run
        write_report(_TITLE, _TEXT, found, next(one.seconds for one in found if "job by ticket" in one.fault))


@pytest.fixture(scope="module")
def dataset(secure: Hdfs, tmp_path_factory: pytest.TempPathFactory) -> str:
    """80 digits of `USER`'s."""
    local = tmp_path_factory.mktemp("secure-set") / "set"
    publish(local, {"train": digits(80)}, shards=2)
    url = secure.new_folder("set")
    put(local, url)
    return url


def _run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code.split(), *arguments], env={**_environment(), **environment}, cwd=ROOT, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{python_packages()}"}


def _inspect(url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run("-m shardwright.cli inspect", url, **environment)


def test_ticket_cache_and_keytab_read(kdc: Kdc, dataset: str) -> None:
    assert _inspect(dataset).returncode == 0
    own = {"KRB5CCNAME": "MEMORY:own", "KRB5_CLIENT_KTNAME": f"FILE:{kdc.keytab(USER)}"}
    assert _inspect(dataset, **own).returncode == 0


def test_what_is_written_is_the_tickets_owners(secure: Hdfs) -> None:
    storage = open_writable(secure.new_folder())
    storage.make_directory()
    storage.write("a", b"1")
    path = storage.url.removeprefix(secure.url)
    (status,) = secure.request("GET", path, "LISTSTATUS")["FileStatuses"]["FileStatus"]
    assert status["owner"] == USER


def test_without_a_ticket_it_says_what_to_do(dataset: str, tmp_path: Path) -> None:
    found = _inspect(dataset, KRB5CCNAME=f"FILE:{tmp_path / 'none'}")
    assert found.returncode == 1
    assert "there is no ticket: run kinit" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_an_expired_ticket_is_told_from_none(kdc: Kdc, dataset: str) -> None:
    cache = kdc.ticket(USER, lifetime="1s")
    time.sleep(2)
    found = _inspect(dataset, KRB5CCNAME=f"FILE:{cache}")
    assert found.returncode == 1
    assert "the Kerberos ticket has expired: run kinit" in found.stderr


def test_a_configuration_without_kerberos_is_named(secure: Hdfs, dataset: str, tmp_path: Path) -> None:
    for name in ("core-site.xml", "hdfs-site.xml"):
        text = (secure.conf / name).read_text()
        (tmp_path / name).write_text(text.replace("<value>kerberos</value>", "<value>simple</value>"))
    found = _inspect(dataset, HADOOP_CONF_DIR=str(tmp_path))
    assert found.returncode == 1
    assert "hadoop.security.authentication" in found.stderr


def test_webhdfs_by_spnego(secure: Hdfs, dataset: str, tmp_path: Path) -> None:
    web = dataset.replace(secure.url, secure.webhdfs)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1\n127.0.0.2\n")
    planned = _run("-m shardwright.cli plan", dataset, "--nodes", str(hosts))
    assert planned.returncode == 0, planned.stderr
    assert _inspect(web).returncode == 0
    refused = _run("-m shardwright.cli plan", dataset, "--nodes", str(hosts), KRB5CCNAME=f"FILE:{tmp_path / 'none'}")
    assert refused.returncode == 1
    assert "run kinit" in refused.stderr


def test_a_stranger_may_not_read(kdc: Kdc, secure: Hdfs) -> None:
    storage = open_writable(secure.new_folder("own"))
    storage.make_directory()
    path = storage.url.removeprefix(secure.url)
    secure.request("PUT", path, "SETPERMISSION", permission="700")
    found = _inspect(storage.url, KRB5CCNAME=f"FILE:{kdc.ticket('ada')}")
    assert found.returncode == 1
    assert "user ada lacks" in found.stderr


def test_tokens_do_without_a_ticket(secure: Hdfs, dataset: str, tmp_path: Path) -> None:
    """As in a container: hdfs-native, `plan` by WebHDFS, and webhdfs:// itself."""
    file, hosts = tmp_path / "tokens", tmp_path / "hosts"
    hosts.write_text("127.0.0.1\n")
    secure.run(_FETCH, "--renewer", "yarn", str(file))
    environment = {"HADOOP_TOKEN_FILE_LOCATION": str(file), "KRB5CCNAME": f"FILE:{tmp_path / 'none'}"}
    for url in (dataset, dataset.replace(secure.url, secure.webhdfs)):
        found = _inspect(url, **environment)
        assert found.returncode == 0, found.stderr
    planned = _run("-m shardwright.cli plan", dataset, "--nodes", str(hosts), **environment)
    assert planned.returncode == 0, planned.stderr
    secure.run(_FETCH, "--cancel", str(file))
    for url in (dataset, dataset.replace(secure.url, secure.webhdfs)):
        refused = _inspect(url, **environment)
        assert refused.returncode == 1
        assert "token" in refused.stderr.lower()
        assert "delegation=" not in refused.stderr.replace("delegation=…", "")
    assert "this container has no valid delegation token" in _inspect(dataset, **environment).stderr


@pytest.mark.parametrize(
    ("renewed", "happened"),
    [
        ("kinit", "the new ticket in the same cache was taken, and the epoch went on"),
        ("keytab", "a ticket was taken from the keytab (KRB5_CLIENT_KTNAME), and the epoch went on"),
        ("nothing", "the epoch stopped and said so; after kinit it went on with the next sample"),
    ],
)
def test_a_ticket_that_expires_in_an_epoch(
    kdc: Kdc, dataset: str, records: list[Record], tmp_path: Path, renewed: str, happened: str
) -> None:
    cache, state = kdc.ticket(USER, lifetime="4s"), tmp_path / "state"
    environment = {**_environment(), "KRB5CCNAME": f"FILE:{cache}"}
    if renewed == "keytab":
        environment["KRB5_CLIENT_KTNAME"] = f"FILE:{kdc.keytab(USER)}"
    process = _begin_epoch(dataset, state, environment)
    seen = [_first_batch(process)]
    time.sleep(5)
    began = time.monotonic()
    if renewed == "kinit":
        kdc.ticket(USER, cache=cache)
    out, err = process.communicate("go on\n", timeout=120)
    if renewed == "nothing":
        assert process.returncode != 0
        assert "the Kerberos ticket has expired: run kinit" in err
        kdc.ticket(USER, cache=cache)
        process = _begin_epoch(dataset, state, environment)
        out, err = process.communicate("go on\n", timeout=120)
    assert process.returncode == 0, err
    seen += map(int, out.split())
    assert seen == [20] * 4
    name = {"kinit": "kinit meanwhile", "keytab": "a keytab", "nothing": "nothing that renews it"}[renewed]
    records.append(Record(f"ticket expires in an epoch, with {name}", happened, time.monotonic() - began, 80 - sum(seen), 0))


def _begin_epoch(dataset: str, state: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _EPOCH, dataset, str(state)], env=environment, cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _first_batch(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_a_secure_nameservice(kdc: Kdc, records: list[Record], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """With a ticket, and with a token for ``ha-hdfs:ns1``, before and after the active NameNode dies."""
    publish(tmp_path / "set", {"train": digits(80)}, shards=2)
    with started(HaHdfs(tmp_path / "ha", kerberos=kdc), request) as ha:
        url, tokens = ha.new_folder("set"), tmp_path / "tokens"
        put(tmp_path / "set", url)
        ha.run(_FETCH, "--renewer", "yarn", str(tokens))
        by_token = {"HADOOP_TOKEN_FILE_LOCATION": str(tokens), "KRB5CCNAME": f"FILE:{tmp_path / 'none'}"}
        for environment in ({}, by_token):
            assert _inspect(url, **environment).returncode == 0
        began = time.monotonic()
        ha.kill_active()
        for environment in ({}, by_token):
            found = _inspect(url, **environment)
            assert found.returncode == 0, found.stderr
        seconds = time.monotonic() - began
        (seen,) = [len(batch["label"]) for batch in sw.open_dataset(url, split="train").loader(batch_size=80, seed=7)]
    happened = "reading by ticket and by token went on with the other one"
    records.append(Record("active NameNode of a secure nameservice killed", happened, seconds, 80 - seen, 0))


@pytest.fixture(scope="module")
def yarn(secure: Hdfs) -> Iterator[Yarn]:
    cluster = Yarn(secure)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize("mode", ["client", "cluster"])
@pytest.mark.parametrize("login", ["ticket", "keytab"])
def test_jobs_on_yarn(kdc: Kdc, secure: Hdfs, yarn: Yarn, records: list[Record], tmp_path: Path, mode: str, login: str) -> None:
    """Executors, and in cluster mode the driver, have tokens alone. No secret is in logs, manifests or command lines."""
    url = secure.new_folder(f"{mode}-{login}")
    java = f"{kdc.java_options} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    settings = {f"spark.{which}.extraJavaOptions": java for which in ("executor", "driver", "yarn.am")}
    environment = {"HADOOP_USER_NAME": USER, **secure.mark}
    options = on_yarn(mode, **settings)
    keytab = kdc.keytab(USER)
    if login == "keytab":
        options += ["--principal", f"{USER}@{REALM}", "--keytab", str(keytab)]
        environment["KRB5CCNAME"] = f"FILE:{tmp_path / 'none'}"
    job = ["jobs/prepare.py", "conf/datasets/mnist.toml", "--set", f"read.path={(SAMPLES / 'mnist').as_uri()}", "--output", url]
    began, lines = time.monotonic(), set()
    submitted = Job(tmp_path / "job.log", [*options, *job], environment)
    while submitted.running and time.monotonic() - began < 400:
        lines |= {command.encode() for command in marked("=".join(*secure.mark.items()).encode()).values()}
        time.sleep(1)
    told = submitted.succeed()
    seconds = time.monotonic() - began
    assert not verify(url).problems
    version, found = read_manifest(open_writable(url))
    assert found.lineage.counts.published == 2000
    manifest = open_writable(url).read(f"{version}/{MANIFEST}")
    logs = b"".join(path.read_bytes() for path in yarn.containers.rglob("*") if path.is_file())
    assert logs
    key = keytab.read_bytes()[-32:]  # of AES-256, at the end of its only entry
    assert lines
    for text in (told.encode(), manifest, logs, *lines):
        for secret in (key, key.hex().encode(), base64.b64encode(key)):
            assert secret not in text
        assert b"HDTS" not in text
        assert b"delegation=" not in text
    lost = 2000 - found.lineage.counts.published
    records.append(Record(f"a job by {login}, {mode} mode", "published; executors had tokens alone", seconds, lost, 0))
