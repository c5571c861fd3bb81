"""``shardwright doctor [URL]``: whether this machine, and a dataset, are fit for work, and what to do where they are not."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from shardwright.cli.environment import environment
from shardwright.cli.health import health
from shardwright.cli.output import Finding, out
from shardwright.errors import ShardwrightError


def doctor(
    url: Annotated[str | None, typer.Argument(help="A dataset to look at too: a path or URL.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Look at the environment, and at a dataset without reading its samples. Exit code 1 when there is a problem."""
    findings = [*environment(), *(_dataset(url) if url is not None else ())]
    console = out()
    if as_json:
        console.print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            advice = f" -> {finding.advice}" if finding.advice else ""
            console.print(f"{finding.level:<8} {finding.about}: {finding.found}{advice}")
        count = Counter(finding.level for finding in findings)
        console.print(f"{count['ok']} ok, {count['warning']} warnings, {count['problem']} problems")
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _dataset(url: str) -> Iterator[Finding]:
    """What `health` finds; where it can't look, why: what was found of this machine before may be the reason."""
    try:
        yield from health(url)
    except (ShardwrightError, OSError) as error:
        yield Finding("problem", url, " ".join(str(error).split()))
