"""``shardwright diff URL_A URL_B``: what is different between two datasets, or two versions of one."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer
from rich.console import Console

from shardwright.cli.output import out
from shardwright.errors import ConfigError
from shardwright.reader.diff import Change, Difference, Samples
from shardwright.reader.diff import diff as compare

_SHOWN = 20
"""Lines of one block before the rest is only counted."""


def diff(
    before: Annotated[str, typer.Argument(metavar="URL_A", help="A dataset.", show_default=False)],
    after: Annotated[str | None, typer.Argument(metavar="URL_B", help="Another; else the same.", show_default=False)] = None,
    version: Annotated[str, typer.Option("--from", help="The version of URL_A.")] = "latest",
    to: Annotated[str, typer.Option("--to", help="The version of URL_B.")] = "latest",
    values: Annotated[bool, typer.Option("--values", help="Compare all values of samples with the same key.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The difference as JSON.")] = False,
) -> None:
    """Compare schema, samples by key, statistics, transforms and plan. Exit code 0: the same content, 1: not."""
    if after is None and version == to:
        raise ConfigError(["diff: expected two datasets, or --from and --to for two versions of one"])
    found = compare(before, after or before, version=version, to=to, values=values)
    if as_json:
        out().print(json.dumps(dataclasses.asdict(found), indent=2, ensure_ascii=False))
    else:
        _show(out(), found)
    if not found.same:
        raise typer.Exit(1)


def _show(console: Console, found: Difference) -> None:
    console.print(f"{found.before} -> {found.after}")
    if found.same:
        console.print(f"same content: {found.content_id[0]}")
        return
    console.print(f"content_id {found.content_id[0]} -> {found.content_id[1]}")
    _block(console, "schema", found.fields)
    _block(console, "samples per split", found.splits)
    if found.samples:
        console.print(_samples(found.samples))
    for name, changes in found.statistics.items():
        _block(console, f"statistics of {name}", changes)
    _block(console, "transforms", found.transforms)
    _block(console, "plan", found.plan)


def _samples(found: Samples) -> str:
    changed = (
        "values not compared (--values: those of fields that both have)"
        if found.changed is None
        else f"{found.changed:,} with other values"
    )
    return (
        f"samples: {found.before:,} -> {found.after:,}: {found.added:,} added, {found.removed:,} removed, "
        f"{found.moved:,} in another split, {changed}"
    )


def _block(console: Console, title: str, changes: dict[str, Change]) -> None:
    if not changes:
        return
    console.print(f"{title}:")
    for name, (one, two) in list(changes.items())[:_SHOWN]:
        console.print(f"  {name}: {_text(one)} -> {_text(two)}")
    if len(changes) > _SHOWN:
        console.print(f"  … and {len(changes) - _SHOWN:,} more")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item not in (None, (), [], False, {}))
    if isinstance(value, (list, tuple)):
        return " ".join("-" if item is None else f"{item:.6g}" if isinstance(item, float) else str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
