"""``shardwright expire URL --keep K``: delete old versions, and never one that anything still needs."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable
from typing import Annotated

import typer

from shardwright.cli.output import out, size, table
from shardwright.errors import ConfigError, DatasetNotFoundError
from shardwright.format.layout import CARRY, EXPIRED, LATEST, LOCK, STAGING
from shardwright.format.versions import published_versions, read_index, read_latest, read_manifest
from shardwright.storage import Lock, WritableStorage, open_writable


def expire(
    url: Annotated[str, typer.Argument(help="The dataset: a local path, file:// or hdfs:// URL.")],
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest versions stay.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a job that holds the dataset.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete all versions but the newest K, the one that _LATEST names, and those whose parts a kept version lists."""
    storage = open_writable(url)
    if not published_versions(storage):
        raise DatasetNotFoundError(f"no dataset at {storage.url}: there is no version")
    if dry_run:
        _say(storage, keep)
        return
    with Lock(storage, LOCK, wait_seconds=wait) as lock:
        old = _say(storage, keep)
        if old and not yes:
            if not sys.stdin.isatty():
                raise ConfigError([f"expire deletes {len(old)} of the versions above: add --yes, or --dry-run to only look"])
            typer.confirm("delete them?", abort=True)
        lock.check()
        _delete(storage, old)


def versions_to_delete(storage: WritableStorage, keep: int) -> dict[str, str]:
    """Every version -> why it stays, or "" where it may go. Raises CorruptError for a version that can't tell what it needs."""
    versions = published_versions(storage)
    reasons = dict.fromkeys(versions, "")
    reasons |= dict.fromkeys(versions[-keep:], f"one of the newest {keep}")
    latest = read_latest(storage)
    if latest in reasons and not reasons[latest]:
        reasons[latest] = f"{LATEST} names it"
    kept = [version for version in versions if reasons[version]]
    while kept:
        version = kept.pop()
        for needed in _needs(storage, version) & reasons.keys():
            if not reasons[needed]:
                reasons[needed] = f"{version} lists its parts"
                kept.append(needed)
    return reasons


def _needs(storage: WritableStorage, version: str) -> set[str]:
    """The other versions whose parts a version lists, as '../v000001/…'."""
    _, manifest = read_manifest(storage, version)
    parts = set(read_index(storage, version, manifest)["part"].to_pylist())
    return {name.split("/")[1] for name in parts if name.startswith("../")}


def _say(storage: WritableStorage, keep: int) -> list[str]:
    """Show what stays and what goes; the names of those that go."""
    reasons = versions_to_delete(storage, keep)
    shown = table("version", "size", "")
    for version, reason in reasons.items():
        verdict = f"stays: {reason}" if reason else f"goes{_waiting(storage, version)}"
        shown.add_row(version, size(_bytes(storage, version)), verdict)
    old = [version for version, reason in reasons.items() if not reason]
    console = out()
    console.print(shown)
    if not old:
        console.print("nothing to delete")
    return old


def _waiting(storage: WritableStorage, version: str) -> str:
    """A warning where samples would go that no other version has to have: those that wait in `_carry`."""
    carried = read_manifest(storage, version)[1].lineage.counts.carried
    return f", and with it {carried:,} samples that wait in {CARRY} for a later version" if carried else ""


def _delete(storage: WritableStorage, versions: Iterable[str]) -> None:
    """Delete versions, and what a killed run had left; say how many bytes that freed, or where the trash has them."""
    for version in versions:
        storage.make_directory(STAGING)
        # out of sight in one step: a version is there whole, or not at all
        storage.rename(version, f"{STAGING}/{EXPIRED}{version}-{uuid.uuid4().hex}")
    freed: dict[str | None, int] = {}
    for name in storage.names(STAGING):
        if name.lstrip(".").startswith(EXPIRED):
            count = _bytes(storage, f"{STAGING}/{name}")
            trash = storage.discard(f"{STAGING}/{name}")
            freed[trash] = freed.get(trash, 0) + count
    if storage.exists(STAGING) and not storage.names(STAGING):
        storage.delete(STAGING)
    for trash, count in freed.items():
        out().print(f"freed {size(count)}" if trash is None else f"in the trash: {trash}; emptying it frees {size(count)}")


def _bytes(storage: WritableStorage, name: str) -> int:
    return sum(storage.files(name).values())
