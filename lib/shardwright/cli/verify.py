"""``shardwright verify URL``: whether a version is, to the byte, what was published."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from shardwright.cli.output import out, size
from shardwright.reader.verify import Report
from shardwright.reader.verify import verify as verify_version
from shardwright.stages.standardise import collector


def verify(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.")],
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
    statistics: Annotated[bool, typer.Option("--statistics", help="Recompute the statistics too: reads every value.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one line of JSON.")] = False,
) -> None:
    """Check every file, count and checksum of a version. Exit code 1 when anything is wrong."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking parts", total=None)
        report = verify_version(
            url, version=version, collector=collector if statistics else None,
            progress=lambda done, parts: bar.update(task, completed=done, total=parts),
        )  # fmt: skip
    show(report, as_json=as_json)


def show(report: Report, *, as_json: bool) -> None:
    """Print what was found; raises typer.Exit with code 1 where anything is wrong."""
    console = out()
    count = len(report.problems)
    if as_json:
        console.print(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
    else:
        verdict = "as published" if not count else f"{count} problem" + "s" * (count > 1)
        statistics = ", statistics recomputed" if report.statistics else ""
        for problem in report.problems:
            console.print(problem)
        console.print(
            f"{report.url} {report.version}: {verdict}; {report.files:,} files, {size(report.bytes)}, "
            f"{report.samples:,} samples{statistics}"
        )
    if count:
        raise typer.Exit(1)
