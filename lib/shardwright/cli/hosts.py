"""A file of hosts, one a line, and which of them a DataNode is."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shardwright.errors import ConfigError, InputNotFoundError

_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class Host:
    """One line of a file of hosts: `line` as it stands there, of which the first word is the name, or name:port."""

    number: int
    line: str
    name: str
    port: str
    addresses: frozenset[str]

    @property
    def identities(self) -> set[str]:
        """What a DataNode on this host may call itself; with the port, where one is given."""
        names = {self.name, *self.addresses}
        return {f"{name}:{self.port}" for name in names} if self.port else names

    @property
    def shown(self) -> str:
        """Name, and port where one is given."""
        return self.line.split()[0]


class Hosts(Sequence[Host]):
    """The hosts of a file, in its order."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._number = {name: number for number, host in enumerate(hosts) for name in host.identities}

    def __len__(self) -> int:
        return len(self._hosts)

    def __getitem__(self, number):  # type: ignore[no-untyped-def] # a Sequence's own overloads
        return self._hosts[number]

    def find(self, datanode: str, name: str) -> int | None:
        """The number of the host where a DataNode runs, by its host name and its ip:port; None for one that is not listed."""
        address, _, port = name.rpartition(":")
        host = datanode.lower()
        for identity in (f"{host}:{port}", name, host, address.strip("[]")):
            if identity in self._number:
                return self._number[identity]
        return None


def read_hosts(path: Path) -> Hosts:
    """The hosts that a file lists: a name, address or name:port a line, whatever follows it, blank lines and # comments.

    Raises InputNotFoundError for a file that is not there, ConfigError for one without hosts, and for hosts that are listed
    twice, by their name or by their address.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputNotFoundError(f"no file of hosts at {path}: expected one host a line") from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: expected text with one host a line ({error})"]) from error
    lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ConfigError([f"{path}: expected one host a line, found none"])
    with ThreadPoolExecutor(_THREADS) as pool:
        hosts = list(pool.map(_host, lines))
    if problems := list(_twice(hosts, path)):
        raise ConfigError(problems)
    return Hosts(hosts)


def _host(numbered: tuple[int, str]) -> Host:
    number, line = numbered
    word = line.split()[0].lower()
    name, colon, port = word.rpartition(":")
    if not colon or not port.isdigit() or (":" in name and not name.endswith("]")):
        name, port = word, ""
    name = name.strip("[]")
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        found = set()  # a name that is known to HDFS alone is still compared as a name
    return Host(number=number, line=line, name=name, port=port, addresses=frozenset(found))


def _twice(hosts: Sequence[Host], path: Path) -> Iterator[str]:
    first: dict[str, Host] = {}
    for host in hosts:
        other = next((first[name] for name in sorted(host.identities) if name in first), None)
        if other is not None:
            same = (
                ""
                if (other.name, other.port) == (host.name, host.port)
                else f": {other.shown} and {host.shown} have one address"
            )
            yield f"{path}: line {host.number} lists the host of line {other.number} again{same}; list each node once"
        for name in host.identities:
            first.setdefault(name, host)
