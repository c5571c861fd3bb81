"""Prepare a dataset: raw data in, exactly balanced shards out.

./spark-submit.sh jobs/prepare.py conf/datasets/mnist.toml [--output URL] [--set shard.count=8] [--dry-run]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.config import load_config
from shardwright.spark import is_due, prepare, stored_schema
from shardwright.spark.messages import check_json, check_text, plan_text, result_json, result_text

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[Path, typer.Argument(help="The dataset's configuration, a TOML file.", show_default=False)],
    output: Annotated[str | None, typer.Option(help="Where the dataset goes, instead of publish.path.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: shard.count=8.")] = None,
    new_version: Annotated[bool, typer.Option(help="Publish although the dataset has another configuration.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the resolved configuration and the passes; do nothing.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another job that holds the dataset.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one line of JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether there is something to do: exit code 0, or 4.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only the result.")] = False,
) -> None:
    """Prepare the dataset that CONFIG describes. --debug shows the trace of an error.

    Exit code 0: the dataset is there; 1: it failed; 2: it was called wrongly; 3: another job holds the dataset.
    """
    resolved = load_config(config, settings or [], output=output)
    if dry_run:
        typer.echo(plan_text(resolved, stored_schema(resolved)))
    elif check:
        due = is_due(resolved)
        typer.echo(check_json(resolved, due=due) if as_json else check_text(resolved, due=due))
        raise typer.Exit(0 if due else 4)
    else:
        published = prepare(resolved, new_version=new_version, wait_seconds=wait, quiet=quiet)
        typer.echo(result_json(published) if as_json else result_text(published))


if __name__ == "__main__":
    run(app, name="prepare.py")
