"""What Hadoop's own configuration says: core-site.xml and hdfs-site.xml of the directory HADOOP_CONF_DIR."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from shardwright.errors import StorageError

_FILES = ("core-site.xml", "hdfs-site.xml")
_RPC_PORT = 8020
_WEB_PORTS = {"http": 9870, "https": 9871}
_DEPTH = 20
"""How often values may name other settings, as Hadoop has it."""


def configuration_directory() -> Path | None:
    """Where Hadoop's configuration lies: HADOOP_CONF_DIR, else etc/hadoop in HADOOP_HOME; None where neither is set."""
    if named := os.environ.get("HADOOP_CONF_DIR"):
        return Path(named)
    home = os.environ.get("HADOOP_HOME")
    return Path(home, "etc", "hadoop") if home else None


def configuration() -> dict[str, str]:
    """The settings of core-site.xml and hdfs-site.xml, ``${name}`` filled in; empty where there is no such file.

    Raises StorageError for a file that can't be read as XML.
    """
    found: dict[str, str] = {}
    directory = configuration_directory()
    for path in [directory / name for name in _FILES] if directory else []:
        try:
            root = ET.parse(path).getroot()  # noqa: S314 - the administrator's own files
        except FileNotFoundError:
            continue
        except (ET.ParseError, OSError) as error:
            raise StorageError(f"can't read Hadoop's configuration {path}: {error}") from error
        for one in root.iter("property"):
            if name := (one.findtext("name") or "").strip():
                found[name] = (one.findtext("value") or "").strip()
    return {name: _filled_in(value, found) for name, value in found.items()}


def is_secure(settings: Mapping[str, str]) -> bool:
    """Whether the cluster asks for Kerberos tickets, or for tokens in their place."""
    return settings.get("hadoop.security.authentication", "").lower() == "kerberos"


def rpc_url(url: str, settings: Mapping[str, str]) -> str:
    """The server of an hdfs:// URL as hdfs-native takes it: hdfs://host:port, or hdfs://nameservice of several NameNodes.

    No server is fs.defaultFS, no port is 8020. Raises StorageError for a URL without server where there is no default.
    """
    authority = url.partition("://")[2].partition("/")[0]
    if not authority:
        default = urlsplit(settings.get("fs.defaultFS", ""))
        if default.scheme != "hdfs":
            raise StorageError(
                f"{url} names no NameNode: write hdfs://host:port/path, or set HADOOP_CONF_DIR (now "
                f"{configuration_directory() or 'not set'}) to a directory whose core-site.xml has an fs.defaultFS of hdfs://"
            )
        authority = default.netloc
    if f"dfs.ha.namenodes.{authority}" in settings:
        return f"hdfs://{authority}"
    address = settings.get(f"dfs.namenode.rpc-address.{authority}", authority)
    return f"hdfs://{address if _port(address) else f'{address}:{_RPC_PORT}'}"


def web_addresses(url: str, settings: Mapping[str, str]) -> list[str]:
    """Where the NameNodes of `url` answer WebHDFS, as http://host:port or https://host:port: of a nameservice all of them.

    hdfs:// names a nameservice, a NameNode's RPC address, or nothing (then fs.defaultFS does); webhdfs:// and swebhdfs:// name
    the HTTP address itself, or a nameservice. Raises StorageError for any other URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("hdfs", "webhdfs", "swebhdfs"):
        raise StorageError(f"expected hdfs://, webhdfs:// or swebhdfs://, found {url!r}")
    secure = parts.scheme == "swebhdfs" or (parts.scheme == "hdfs" and settings.get("dfs.http.policy") == "HTTPS_ONLY")
    scheme = "https" if secure else "http"
    authority = parts.netloc or urlsplit(settings.get("fs.defaultFS", "")).netloc
    if not authority:
        raise StorageError(
            f"{url} names no NameNode: write hdfs://host:port/path, or set HADOOP_CONF_DIR, whose fs.defaultFS does"
        )
    suffixes = _suffixes(authority, settings)
    if not suffixes:
        if parts.scheme != "hdfs":
            return [f"{scheme}://{_with_port(authority, _WEB_PORTS[scheme])}"]
        return [f"{scheme}://{_host(authority)}:{_WEB_PORTS[scheme]}"]
    found = []
    for suffix in suffixes:
        rpc = settings.get(f"dfs.namenode.rpc-address{suffix}", authority)
        address = settings.get(f"dfs.namenode.{scheme}-address{suffix}", f"0.0.0.0:{_WEB_PORTS[scheme]}")
        host = _host(rpc) if _host(address) in ("", "0.0.0.0") else _host(address)  # noqa: S104 - Hadoop's "any": the RPC's host
        found.append(f"{scheme}://{host}:{_port(address) or _WEB_PORTS[scheme]}")
    return found


def _suffixes(authority: str, settings: Mapping[str, str]) -> list[str]:
    """What the names of settings of the NameNodes of `authority` end in: ".ns1.nn1", …, or "" of a cluster with one.

    Empty for a NameNode that the configuration does not know.
    """
    if names := settings.get(f"dfs.ha.namenodes.{authority}"):
        return [f".{authority}.{name}" for name in _words(names)]
    if authority in _words(settings.get("dfs.nameservices", "")):
        return [f".{authority}"]
    known = {_with_port(address, _RPC_PORT): name.removeprefix("dfs.namenode.rpc-address")
             for name, address in settings.items() if name.startswith("dfs.namenode.rpc-address")}  # fmt: skip
    if (wanted := _with_port(authority, _RPC_PORT)) in known:
        return [known[wanted]]
    default = urlsplit(settings.get("fs.defaultFS", "")).netloc
    return [""] if default and _with_port(default, _RPC_PORT) == wanted else []


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _host(address: str) -> str:
    host = address if address.endswith("]") or ":" not in address else address.rpartition(":")[0]
    return host.rpartition("@")[2]


def _with_port(address: str, port: int) -> str:
    return address if _port(address) else f"{_host(address)}:{port}"


def _port(address: str) -> int | None:
    try:
        return urlsplit(f"//{address}").port
    except ValueError as error:
        raise StorageError(f"expected host:port, or the name of a nameservice, found {address!r}: {error}") from None


def _filled_in(value: str, settings: Mapping[str, str]) -> str:
    for _ in range(_DEPTH):
        filled = re.sub(r"\$\{([^}]+)\}", lambda match: settings.get(match[1], match[0]), value)
        if filled == value:
            break
        value = filled
    return value
