"""``shardwright plan URL --nodes HOSTS``: which host should be which node, so that most bytes of its shards lie there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track

from shardwright.cli.hosts import Hosts, read_hosts
from shardwright.cli.output import out, size, table
from shardwright.cli.splits import chosen_split
from shardwright.errors import ConfigError, CorruptError
from shardwright.format.versions import read_index, read_manifest
from shardwright.order.placement import best_hosts
from shardwright.storage import Storage, check_name, open_storage
from shardwright.storage.webhdfs import Block, WebHdfs

_THREADS = 8
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its host, its shards (s with s mod nodes == node), the bytes of their parts, and how many of them lie there."""

    node: int
    host: str
    shards: list[int]
    bytes: int
    local_bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The nodes in order, and the bytes that lie where they are read, with the hosts as they were given and as planned."""

    url: str
    version: str
    content_id: str
    split: str
    bytes: int
    local_bytes_as_given: int
    local_bytes: int
    nodes: list[Node]


def plan(
    url: Annotated[str, typer.Argument(help="The dataset: an hdfs:// or webhdfs:// URL.")],
    nodes: Annotated[Path, typer.Option(help="The hosts to train on, one a line.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="The split; by default the only one, or train.")] = None,
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
    output: Annotated[Path | None, typer.Option(help="Write the hosts there, line i for node i.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON.")] = False,
) -> None:
    """Say which host should be which node number, by where HDFS has the blocks of its shards."""
    if urlsplit(url).scheme not in ("hdfs", "webhdfs", "swebhdfs"):
        raise ConfigError(
            [f"plan: expected an hdfs:// or webhdfs:// URL, found {url!r}: only HDFS says on which hosts bytes lie"]
        )
    hosts = read_hosts(nodes)
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    chosen = chosen_split(manifest, split, where=f"{storage.url}/{name}")
    index = read_index(storage, name, manifest)
    columns = ("split", "shard", "part", "bytes")
    rows = zip(*(index[column].to_pylist() for column in columns), strict=True)
    parts = {part: (shard, length) for of, shard, part, length in rows if of == chosen}
    blocks = _locations(storage, name, list(parts))
    local, strangers = _local_bytes({part: shard for part, (shard, _) in parts.items()}, blocks, hosts)
    order = best_hosts(local)
    found = Plan(
        url=storage.url, version=name, content_id=manifest.content_id, split=chosen,
        bytes=sum(length for _, length in parts.values()), local_bytes_as_given=int(local.trace()),
        local_bytes=int(local[np.arange(len(hosts)), order].sum()),
        nodes=list(_nodes(len(manifest.content.splits[chosen].shards), parts, hosts, order, local)),
    )  # fmt: skip
    if output is not None:
        output.write_text("".join(f"{hosts[host].line}\n" for host in order), encoding="utf-8")
    if as_json:
        out().print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        _show(found, output)
    if not local.any():
        seen = ", ".join(strangers[:_SHOWN]) + (" …" if len(strangers) > _SHOWN else "")
        warning = f"warning: none of the hosts in {nodes} holds a block; the DataNodes that do: {seen or 'none'}"
        print(warning, file=sys.stderr)  # noqa: T201


def _locations(storage: Storage, version: str, parts: list[str]) -> dict[str, list[Block]]:
    """The blocks of each part. Raises CorruptError for one that is not there."""
    client = WebHdfs(storage.url)

    def ask(part: str) -> list[Block]:
        try:
            return client.block_locations(f"{client.path}/{version}/{check_name(part)}")
        except FileNotFoundError as error:
            raise CorruptError(f"{storage.url}/{version}/{part} is missing; copy it there again") from error

    console = Console(stderr=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = track(
            pool.map(ask, parts), "asking where blocks lie", len(parts), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        return dict(zip(parts, found, strict=True))


def _local_bytes(
    shards: Mapping[str, int], blocks: Mapping[str, list[Block]], hosts: Hosts
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Bytes of each node's shards with a replica on each host, (nodes, hosts); and the DataNodes that are no host."""
    local = np.zeros((len(hosts), len(hosts)), np.int64)
    strangers = set()
    for part, shard in shards.items():
        for block in blocks[part]:
            replicas = list(zip(block.hosts, block.names, strict=True))
            numbers = {replica: hosts.find(*replica) for replica in replicas}
            strangers |= {f"{host} ({name})" for (host, name), number in numbers.items() if number is None}
            for number in {number for number in numbers.values() if number is not None}:
                local[shard % len(hosts), number] += block.length
    return local, sorted(strangers)


def _nodes(
    shards: int,
    parts: Mapping[str, tuple[int, int]],
    hosts: Hosts,
    order: npt.NDArray[np.int64],
    local: npt.NDArray[np.int64],
) -> Iterator[Node]:
    held = [0] * len(hosts)
    for shard, length in parts.values():
        held[shard % len(hosts)] += length
    for node, host in enumerate(order.tolist()):
        mine = list(range(node, shards, len(hosts)))
        yield Node(node=node, host=hosts[host].shown, shards=mine, bytes=held[node], local_bytes=int(local[node, host]))


def _show(found: Plan, output: Path | None) -> None:
    console = out()
    shards = sum(len(node.shards) for node in found.nodes)
    console.print(f"{found.url} {found.version} {found.split}: {_balance(shards, len(found.nodes))}")
    before, after = _share(found.local_bytes_as_given, found.bytes), _share(found.local_bytes, found.bytes)
    console.print(f"local: {before} of {size(found.bytes)} with the hosts in the order given, {after} in this order")
    shown = table("node", "host", "shards", "size", "local", "share")
    for node in found.nodes:
        shown.add_row(
            str(node.node), node.host, str(len(node.shards)), size(node.bytes), size(node.local_bytes),
            _share(node.local_bytes, node.bytes),
        )  # fmt: skip
    console.print(shown)
    if output is not None:
        console.print(f"written to {output}: line 1 is node 0")


def _balance(shards: int, nodes: int) -> str:
    each, more = divmod(shards, nodes)
    what = f"{shards} shards on {nodes} {'node' if nodes == 1 else 'nodes'}"
    if not more:
        return f"{what}, {each} each"
    if not each:
        return f"{what}: {nodes - more} of the nodes without a shard"
    return f"{what}: {more} with {each + 1}, {nodes - more} with {each} (node_local reading needs nodes that divide the shards)"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
