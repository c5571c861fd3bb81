"""``shardwright check URL``: what a dataset of another system is, what is wrong with it, and what migration makes of it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from shardwright.cli.legacy import Diagnosis, diagnose
from shardwright.cli.output import out, table


def check(
    url: Annotated[str, typer.Argument(help="A folder of Petastorm, Parquet, WebDataset or MDS: a path or a URL.")],
    ranks: Annotated[int, typer.Option(min=1, help="How many trainers would share it.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one line of JSON.")] = False,
) -> None:
    """Look at a dataset before it is migrated. Its pickles are not run. Exit code 1 where something is wrong with it."""
    found = diagnose(url, ranks)
    if as_json:
        typer.echo(json.dumps(_as_dict(found), ensure_ascii=False))
    else:
        _show(found)
    if not found.healthy:
        raise typer.Exit(1)


def _show(found: Diagnosis) -> None:
    console = out()
    console.print(f"{found.url}: {found.about}")
    for one in found.findings:
        console.print(f"  {one.level:<8} {one.about}: {one.found}" + (f"; {one.advice}" if one.advice else ""))
    if found.fields:
        shown = table("field", "is", "becomes")
        for row in found.fields:
            shown.add_row(*row)
        console.print("")
        console.print(shown)
        console.print("")
        console.print(f"migrate it: {found.command}")


def _as_dict(found: Diagnosis) -> dict[str, object]:
    return {
        "status": "healthy" if found.healthy else "unhealthy", "exit_code": 0 if found.healthy else 1, "url": found.url,
        "kind": found.kind, "about": found.about, "command": found.command,
        "findings": [vars(one) for one in found.findings],
        "fields": [{"name": name, "is": was, "becomes": form} for name, was, form in found.fields],
    }  # fmt: skip
