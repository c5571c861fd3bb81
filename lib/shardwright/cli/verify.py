"""``shardwright verify URL``: whether a version is, to the byte, what was published."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from shardwright.cli.output import out, size
from shardwright.reader.verify import verify as verify_version


def verify(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.")],
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
) -> None:
    """Check every file, count and checksum of a version. Exit code 1 when anything is wrong."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking files", total=None)
        report = verify_version(
            url, version=version, progress=lambda done, files: bar.update(task, completed=done, total=files)
        )
    console = out()
    for problem in report.problems:
        console.print(problem)
    count = len(report.problems)
    verdict = "as published" if not count else f"{count} problem" + "s" * (count > 1)
    console.print(
        f"{report.url} {report.version}: {verdict}; {report.files:,} files, {size(report.bytes)}, {report.samples:,} samples"
    )
    if count:
        raise typer.Exit(1)
