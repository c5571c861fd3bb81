"""`shardwright plan` on real block locations: three DataNodes, two replicas."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from shardwright.cli import main
from shardwright.schema import Field, Schema
from tests.cluster.datasets import put
from tests.cluster.hdfs import Hdfs
from tests.datasets import publish

SHARDS = 5
HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
"""What the DataNodes of a test cluster are called."""
SCHEMA = Schema(fields=(Field(name="image", dtype="uint8", shape=(64, 64)),))


@pytest.fixture(scope="module")
def url(hdfs: Hdfs, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five shards of one part and two or three blocks each: so much that no two orders of hosts are likely to be alike."""
    folder = tmp_path_factory.mktemp("plan") / "dataset"
    images = np.random.default_rng(0).integers(0, 256, (2500, 64, 64), np.uint8)
    publish(folder, {"train": {"image": images}}, SCHEMA, shards=SHARDS, part_samples=600, row_group_samples=600)
    found = hdfs.new_folder("plan #1?")
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


def local_bytes(hdfs: Hdfs, url: str, nodes: int) -> list[dict[tuple[str, str], int]]:
    """For each node the bytes of its shards on each DataNode, by host and ip:port; asked for without the product."""
    found: list[dict[tuple[str, str], int]] = [{} for _ in range(nodes)]
    for shard in range(SHARDS):
        path = f"{url.removeprefix(hdfs.url)}/v000001/train/shard={shard:05d}/part-00000.parquet"
        blocks = hdfs.request("GET", path, "GETFILEBLOCKLOCATIONS")["BlockLocations"]["BlockLocation"]
        assert len(blocks) > 1
        for block in blocks:
            assert len(block["hosts"]) == 2
            for datanode in zip(block["hosts"], block["names"], strict=True):
                mine = found[shard % nodes]
                mine[datanode] = mine.get(datanode, 0) + block["length"]
    return found


def test_the_best_order_of_hosts(hdfs, url, run, tmp_path):
    expected = local_bytes(hdfs, url, 3)
    by_host = [{host: count for (host, _), count in node.items()} for node in expected]

    def total(order):
        return sum(node.get(host, 0) for node, host in zip(by_host, order, strict=True))

    worst, best = (choose(itertools.permutations(HOSTS), key=total) for choose in (min, max))
    (tmp_path / "hosts").write_text("".join(f"{host} slots=2\n" for host in worst))
    code, out, err = run("plan", url, "--nodes", tmp_path / "hosts", "--json", "--output", tmp_path / "ordered")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["local_bytes_as_given"], found["local_bytes"]) == (total(worst), total(best))
    assert total(best) > total(worst)
    assert found["bytes"] == sum(count for node in by_host for count in node.values()) / 2
    assert [node["shards"] for node in found["nodes"]] == [[0, 3], [1, 4], [2]]
    order = [node["host"] for node in found["nodes"]]
    assert total(order) == total(best)
    assert [node["local_bytes"] for node in found["nodes"]] == [by_host[n].get(host, 0) for n, host in enumerate(order)]
    assert (tmp_path / "ordered").read_text() == "".join(f"{host} slots=2\n" for host in order)
    code, again, _ = run("plan", url, "--nodes", tmp_path / "ordered")
    share = f"{total(best) / found['bytes']:.1%}"
    assert f"local: {share} of " in again
    assert f"with the hosts in the order given, {share} in this order" in again
    assert "5 shards on 3 nodes: 2 with 2, 1 with 1 (node_local reading needs nodes that divide the shards)" in again


def test_datanodes_told_apart_by_their_port(hdfs, url, run, tmp_path):
    expected = local_bytes(hdfs, url, 3)
    names = sorted({name for node in expected for _, name in node})
    by_name = [{name: count for (_, name), count in node.items()} for node in expected]
    best = max(itertools.permutations(names), key=lambda o: sum(n.get(h, 0) for n, h in zip(by_name, o, strict=True)))
    (tmp_path / "hosts").write_text("\n".join(names))
    _, out, _ = run("plan", url, "--nodes", tmp_path / "hosts", "--json")
    assert [node["host"] for node in json.loads(out)["nodes"]] == list(best)


def test_over_webhdfs_alone_and_more_nodes_than_shards(hdfs, url, run, tmp_path):
    (tmp_path / "hosts").write_text("\n".join([*HOSTS, "four.invalid", "five.invalid", "six.invalid", "seven.invalid"]))
    code, out, _ = run("plan", url.replace(hdfs.url, hdfs.webhdfs), "--nodes", tmp_path / "hosts")
    assert code == 0
    assert "5 shards on 7 nodes: 2 of the nodes without a shard" in out
    assert out.count("0 bytes  0 bytes  -") == 2


def test_hosts_without_a_block(url, run, tmp_path):
    (tmp_path / "hosts").write_text("one.invalid\ntwo.invalid\n")
    code, out, err = run("plan", url, "--nodes", tmp_path / "hosts")
    assert code == 0
    assert "local: 0.0% of" in out
    assert f"warning: none of the hosts in {tmp_path / 'hosts'} holds a block; the DataNodes that do: 127.0.0." in err


@pytest.mark.parametrize(
    "target, arguments, code, message",
    [
        ("{url}", ["--split", "tran"], 1, "has no split 'tran': did you mean 'train'? known: train"),
        ("{url}", ["--version", "v000009"], 1, "no version 'v000009' in {url}: versions there: v000001"),
        ("{url}-none", [], 1, "no dataset at {url}-none: expected the directory that holds _LATEST"),
        ("/data/local", [], 2, "plan: expected an hdfs:// or webhdfs:// URL, found '/data/local'"),
        ("{url}", ["--nodes", "nowhere"], 1, "no file of hosts at nowhere: expected one host a line"),
    ],
)
def test_errors(url, run, tmp_path, target, arguments, code, message):
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    nodes = [] if "--nodes" in arguments else ["--nodes", tmp_path / "hosts"]
    found, out, err = run("plan", target.format(url=url), *nodes, *arguments)
    assert (found, out) == (code, "")
    assert message.format(url=url) in err


def test_a_part_that_is_gone(hdfs, url, run, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    part = f"{url.removeprefix(hdfs.url)}/v000001/train/shard=00004/part-00000.parquet"
    hdfs.request("PUT", part, "RENAME", destination=f"{part}.aside")
    try:
        code, _, err = run("plan", url, "--nodes", tmp_path / "hosts")
    finally:
        hdfs.request("PUT", f"{part}.aside", "RENAME", destination=part)
    assert code == 1
    assert "shard=00004/part-00000.parquet is missing; copy it there again" in err


def test_webhdfs_is_elsewhere(hdfs, url, run, tmp_path, monkeypatch):
    """The configuration names another port than the NameNode's."""
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    site = (hdfs.conf / "hdfs-site.xml").read_text()
    (tmp_path / "hdfs-site.xml").write_text(site.replace(hdfs.http.removeprefix("http://"), "127.0.0.1:1"))
    (tmp_path / "core-site.xml").write_text((hdfs.conf / "core-site.xml").read_text())
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    code, _, err = run("plan", url, "--nodes", tmp_path / "hosts")
    assert code == 1
    assert (
        "over WebHDFS: tried http://127.0.0.1:1 (Connection refused); dfs.namenode.http-address in hdfs-site.xml"
        in err.replace("[Errno 111] ", "")
    )
