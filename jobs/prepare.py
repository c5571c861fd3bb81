"""Prepare a dataset: raw data in, exactly balanced shards out.

./spark-submit.sh jobs/prepare.py conf/datasets/mnist.toml [--output URL] [--set shard.count=8] [--dry-run]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.config import load_config
from shardwright.spark import prepare, stored_schema
from shardwright.spark.messages import plan_text, result_text

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[Path, typer.Argument(help="The dataset's configuration, a TOML file.", show_default=False)],
    output: Annotated[str | None, typer.Option(help="Where the dataset goes, instead of publish.path.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: shard.count=8.")] = None,
    new_version: Annotated[bool, typer.Option(help="Publish although the dataset has another configuration.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the resolved configuration and the passes; do nothing.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only the result.")] = False,
) -> None:
    """Prepare the dataset that CONFIG describes. --debug shows the trace of an error."""
    resolved = load_config(config, settings or [], output=output)
    if dry_run:
        typer.echo(plan_text(resolved, stored_schema(resolved)))
    else:
        typer.echo(result_text(prepare(resolved, new_version=new_version, quiet=quiet)))


if __name__ == "__main__":
    run(app, name="prepare.py")
