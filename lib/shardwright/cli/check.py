"""``shardwright check URL``: what a dataset of another system is, whether it is sound, and what migration makes of it."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Annotated

import typer
from rich.console import Console

from shardwright.cli.health import health
from shardwright.cli.legacy import Legacy, examine
from shardwright.cli.output import out, size, table


def check(
    url: Annotated[str, typer.Argument(help="A dataset of Petastorm, Parquet, WebDataset or MDS: a path or URL.")],
    ranks: Annotated[int | None, typer.Option(min=1, help="Whether so many ranks would get equally many rows.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that was found as JSON.")] = False,
) -> None:
    """Look at a dataset of another system, without running anything in it. Exit code 1 when there is a problem."""
    found = examine(url, ranks=ranks)
    if found.kind == "shardwright":
        found.findings += health(url)
    console = out()
    if as_json:
        plain = {**dataclasses.asdict(found), "healthy": found.healthy, "migrate": _command(found)}
        console.print(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        _show(console, found)
    if not found.healthy:
        raise typer.Exit(1)


def _command(found: Legacy) -> str | None:
    if found.kind == "shardwright":
        return None
    return " ".join(["./spark-submit.sh jobs/migrate.py", shlex.quote(found.url), "--output URL --shards N", *found.options])


def _show(console: Console, found: Legacy) -> None:
    counts = [f"{found.files:,} files, {size(found.bytes)}"] if found.files else []
    counts += [f"{found.rows:,} rows"] if found.rows is not None else []
    counts += [f"{found.row_groups:,} row groups"] if found.row_groups is not None else []
    console.print(f"{found.url}: {', '.join([found.described, *counts])}")
    for finding in found.findings:
        advice = f" -> {finding.advice}" if finding.advice else ""
        console.print(f"{finding.level:<8} {finding.about}: {finding.found}{advice}")
    if found.fields:
        fields = table("field", "there", "here", "")
        for field in found.fields:
            fields.add_row(ascii(field.name)[1:-1], field.before, field.after or "-", field.note if field.after else "")
        console.print("", fields)
    command = _command(found)
    problems = sum(finding.level == "problem" for finding in found.findings)
    console.print(f"\n{f'{problems} problems' if problems else 'healthy'}")
    if command is not None:
        console.print(f"migrate it: {command}")
