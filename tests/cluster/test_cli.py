"""The verbs on HDFS; and what they say when a dataset is not where, or not for whom, it was thought to be."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from shardwright.cli import main
from shardwright.storage import open_writable
from tests.cluster.datasets import put
from tests.cluster.hdfs import Hdfs
from tests.datasets import digits, publish
from tests.processes import free_ports


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """Three versions, on this disk."""
    root = tmp_path_factory.mktemp("cli") / "dataset"
    for number in (1, 2, 3):
        publish(root, {"train": digits(40, number)}, shards=2, version=f"v{number:06d}")
    return root


@pytest.fixture
def url(hdfs: Hdfs, folder) -> str:
    """The same on HDFS."""
    found = hdfs.new_folder("cli")
    put(folder, found)
    return found


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    return call


def findings(run, url):
    """What `doctor` finds of a dataset: about -> (level, found)."""
    _, out, _ = run("doctor", url, "--json")
    return {one["about"]: (one["level"], one["found"]) for one in json.loads(out)}


def test_verbs_say_what_they_say_of_a_local_copy(run, url, folder):
    for verb in (["inspect"], ["inspect", "--json"], ["head", "-n", "3"], ["verify", "--statistics"]):
        here, there = (run(verb[0], place, *verb[1:]) for place in (folder, url))
        assert here[0] == 0
        assert there == (here[0], here[1].replace(str(folder), url), here[2])
    assert run("diff", folder, url)[:2] == (
        0,
        run("diff", url, folder)[1].replace(f"{url} v000003 -> {folder}", f"{folder} v000003 -> {url}"),
    )
    code, out, _ = run("diff", url, "--from", "v000001")
    assert (code, "content_id " in out) == (1, True)


def test_expired_versions_go_to_the_trash(hdfs, run, url):
    storage = open_writable(url)
    before = storage.files("v000001")
    code, out, _ = run("expire", url, "--keep", "2", "--dry-run")
    assert (code, storage.names()) == (0, ["_LATEST", "v000001", "v000002", "v000003"])
    code, out, _ = run("expire", url, "--keep", "2", "--yes")
    assert (code, storage.names()) == (0, ["_LATEST", "v000002", "v000003"])
    (line,) = [line for line in out.splitlines() if line.startswith("in the trash: ")]
    trash = line.removeprefix("in the trash: ").partition(";")[0]
    assert trash.startswith(f"{hdfs.url}/user/shardwright/.Trash/Current{urlsplit(url).path}/_staging/expired-v000001-")
    assert open_writable(trash).files() == before
    code, out, _ = run("expire", url, "--keep", "2", "--yes")
    assert (code, out.splitlines()[-1]) == (0, "nothing to delete")


def test_a_healthy_dataset(run, url):
    found = findings(run, url)
    assert found[url] == ("ok", "3 versions, the newest v000003")
    assert found["v000003"][0] == "ok"
    assert found["space"][0] in ("ok", "warning")
    assert "free on HDFS, for all replicas" in found["space"][1]
    assert not [about for about in found if about.startswith(("_LOCK", "_staging", "quota", "WebHDFS"))]


def test_what_is_wrong_with_a_dataset(hdfs, run, url):
    storage = open_writable(url)
    storage.delete("v000001/train/shard=00001/part-00000.parquet")
    storage.make_directory("v000004")
    storage.make_directory("_staging/0123")
    storage.write("_staging/0123/x", b"12345")
    storage.write("_LOCK", b'{"host": "another", "pid": 7}')
    path = urlsplit(url).path
    names = hdfs.request("GET", path, "GETQUOTAUSAGE")["QuotaUsage"]["fileAndDirectoryCount"]
    hdfs.request("PUT", path, "SETQUOTA", namespacequota=names + 1, storagespacequota=2**30)
    found = findings(run, url)
    assert found["v000001"] == ("problem", "1 files missing or of another size: train/shard=00001/part-00000.parquet")
    assert found["v000004"] == ("warning", "no manifest: this version does not exist")
    assert found["_staging/0123"] == ("ok", "5 bytes, 0.0 hours old")
    assert found["_LOCK"] == ("ok", "held by process 7 on another")
    _, out, _ = run("doctor", url)
    lines = [line for line in out.splitlines() if f"quota of {path}" in line]
    assert lines[0].startswith("warning")
    assert f"{names} of {names + 1} names -> the next publish may not fit" in lines[0]
    assert lines[1].startswith("ok")
    assert "of 1.0 GiB space, replicas counted" in lines[1]
    code, _, err = run("expire", url, "--keep", "1", "--yes")
    assert (code, "another publish holds" in err) == (3, True)


def test_a_quota_of_a_directory_above(hdfs, run, url):
    home = urlsplit(url).path.rpartition("/")[0]
    hdfs.request("PUT", home, "SETQUOTA", namespacequota=100_000)
    try:
        assert findings(run, url)[f"quota of {home}"][1].endswith(" of 100,000 names")
    finally:
        hdfs.request("PUT", home, "SETQUOTA", namespacequota=-1)


def test_a_dataset_of_somebody_else(hdfs, run, url, monkeypatch):
    path = urlsplit(url).path
    hdfs.request("PUT", path, "SETPERMISSION", permission="700")
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    for verb in (["inspect"], ["head"], ["verify"], ["expire", "--keep", "1", "--yes"]):
        code, out, err = run(verb[0], url, *verb[1:])
        assert (code, out) == (1, "")
        assert err.startswith("error: no permission to ")
        assert "somebody" in err
        assert err.count("\n") == 1
    code, out, _ = run("doctor", url)
    assert code == 1
    assert f"problem  {url}: no permission to " in out
    hdfs.request("PUT", path, "SETPERMISSION", permission="755")
    assert run("inspect", url)[0] == 0
    code, _, err = run("expire", url, "--keep", "1", "--yes")
    assert (code, err.startswith("error: no permission to write ")) == (1, True)
    assert "v000001" in open_writable(url).names()


def test_places_without_a_dataset(run, url):
    for place in (f"{url}-none", f"{url}/_LATEST", f"{url}/v000001"):
        code, out, err = run("inspect", place)
        assert (code, out) == (1, "")
        assert f"error: no dataset at {place}: expected the directory that holds _LATEST and v000001, …" in err
        assert findings(run, place)[place] == ("problem", "no dataset: there is no version")


def test_a_namenode_that_does_not_answer(run):
    (port,) = free_ports(1)
    place = f"hdfs://127.0.0.1:{port}/data"
    code, out, err = run("inspect", place)
    assert (code, out) == (1, "")
    assert f"error: can't reach hdfs://127.0.0.1:{port}: " in err
    assert "Connection refused" in err
    assert findings(run, place)[place][0] == "problem"
