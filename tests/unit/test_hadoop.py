"""Hadoop's configuration: where the NameNodes of a URL answer over HTTP; and what is said where none does."""

from __future__ import annotations

import http.server
import threading

import pytest

from shardwright.errors import StorageError
from shardwright.storage.hadoop import configuration, web_addresses
from shardwright.storage.webhdfs import WebHdfs
from tests.processes import free_ports

ONE = {"fs.defaultFS": "hdfs://nn:9000", "dfs.namenode.http-address": "nn.example.com:50070"}
HA = {
    "fs.defaultFS": "hdfs://ns1",
    "dfs.nameservices": "ns1, ns2",
    "dfs.ha.namenodes.ns1": "a,b",
    "dfs.namenode.rpc-address.ns1.a": "nn1:8020",
    "dfs.namenode.rpc-address.ns1.b": "nn2:8020",
    "dfs.namenode.http-address.ns1.a": "0.0.0.0:50070",
    "dfs.namenode.http-address.ns1.b": "nn2.example.com:9870",
    "dfs.namenode.rpc-address.ns2": "nn3:9000",
}


@pytest.mark.parametrize(
    "url, settings, expected",
    [
        ("hdfs://nn:9000/data", {}, ["http://nn:9870"]),
        ("hdfs://nn/data", {}, ["http://nn:9870"]),
        ("hdfs://nn:9000/data", ONE, ["http://nn.example.com:50070"]),
        ("hdfs:///data", ONE, ["http://nn.example.com:50070"]),
        ("hdfs://other:9000/data", ONE, ["http://other:9870"]),
        ("hdfs://ns1/data", HA, ["http://nn1:50070", "http://nn2.example.com:9870"]),
        ("hdfs:///data", HA, ["http://nn1:50070", "http://nn2.example.com:9870"]),
        ("hdfs://nn2/data", HA, ["http://nn2.example.com:9870"]),
        ("hdfs://ns2/data", HA, ["http://nn3:9870"]),
        ("hdfs://nn3:9000/data", HA, ["http://nn3:9870"]),
        ("webhdfs://ns1/data", HA, ["http://nn1:50070", "http://nn2.example.com:9870"]),
        ("webhdfs://nn:1234/data", ONE, ["http://nn:1234"]),
        ("webhdfs://nn/data", ONE, ["http://nn:9870"]),
        ("swebhdfs://nn/data", ONE, ["https://nn:9871"]),
        ("hdfs://nn:9000/x", {**ONE, "dfs.http.policy": "HTTPS_ONLY"}, ["https://nn:9871"]),
        (
            "hdfs://nn:9000/x",
            {**ONE, "dfs.http.policy": "HTTPS_ONLY", "dfs.namenode.https-address": "s:1"},
            ["https://s:1"],
        ),
    ],
)
def test_web_addresses(url, settings, expected):
    assert web_addresses(url, settings) == expected


def test_urls_that_lead_nowhere():
    with pytest.raises(StorageError, match="names no NameNode: write hdfs://host:port/path, or set HADOOP_CONF_DIR"):
        web_addresses("hdfs:///data", {})
    with pytest.raises(StorageError, match="expected hdfs://, webhdfs:// or swebhdfs://, found 's3://bucket/data'"):
        web_addresses("s3://bucket/data", {})


def test_the_configuration_is_read_with_names_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert configuration() == {}
    (tmp_path / "core-site.xml").write_text(
        "<configuration><property><name>fs.defaultFS</name><value> hdfs://${nn}:${port} </value></property>"
        "<property><name>nn</name><value>one.${domain}</value></property></configuration>"
    )
    (tmp_path / "hdfs-site.xml").write_text(
        "<configuration><property><name>port</name><value>9000</value><final>true</final></property></configuration>"
    )
    assert configuration()["fs.defaultFS"] == "hdfs://one.${domain}:9000"
    (tmp_path / "hdfs-site.xml").write_text("<configuration>")
    with pytest.raises(StorageError, match=r"can't read Hadoop's configuration .*/hdfs-site.xml: no element found"):
        configuration()


def test_the_configuration_of_hadoop_home(monkeypatch, tmp_path):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.setenv("HADOOP_HOME", str(tmp_path))
    (tmp_path / "etc/hadoop").mkdir(parents=True)
    (tmp_path / "etc/hadoop/core-site.xml").write_text(
        "<configuration><property><name>a</name><value>b</value></property></configuration>"
    )
    assert configuration() == {"a": "b"}


def test_no_namenode_listens(monkeypatch):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("HADOOP_HOME", raising=False)
    (port,) = free_ports(1)
    with pytest.raises(StorageError) as caught:
        WebHdfs(f"webhdfs://127.0.0.1:{port}/data").call("GET", "GETFILESTATUS", "/data")
    for expected in (
        f"tried http://127.0.0.1:{port} (",
        "Connection refused",
        "dfs.namenode.http-address",
        "HADOOP_CONF_DIR (not set)",
    ):
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    "status, expected",
    [(200, "expected WebHDFS, found HTTP 200 OK"), (401, "asks for a login (HTTP 401): set HADOOP_CONF_DIR")],
)
def test_another_web_server(status, expected):
    """A page in place of an answer; and one that wants a login, which is all that a client without Kerberos gets to see."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("WWW-Authenticate", "Negotiate")
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(StorageError) as caught:
                WebHdfs(f"webhdfs://127.0.0.1:{server.server_port}").call("GET", "GETFILESTATUS", "/data")
        finally:
            server.shutdown()
            thread.join()
    assert expected in str(caught.value)
