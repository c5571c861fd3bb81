"""Migrate a dataset of another system as it is: Petastorm, Parquet, WebDataset or MDS in, equal shards out, values compared.

./spark-submit.sh jobs/migrate.py INPUT --output URL --shards N [--split train=0.9,validation=0.1] [--order-by time] [--dry-run]
"""

from __future__ import annotations

from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.spark.messages import plan_text
from shardwright.spark.migrate import migrate, migration, result_json, result_text
from shardwright.spark.pipeline import stored_schema

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A folder, file, glob or URL.", show_default=False)],
    output: Annotated[str, typer.Option(help="Where the dataset goes.", show_default=False)],
    shards: Annotated[int, typer.Option(min=1, max=99_999, help="Shards of each split.", show_default=False)],
    file_format: Annotated[
        str | None, typer.Option("--format", help="petastorm, parquet, webdataset or mds; by default what it looks like.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The dataset's name; by default the last name in --output.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="The field that says it, or fractions: train=0.9,validation=0.1. By default all is train."),
    ] = None,
    order_by: Annotated[str | None, typer.Option(help="Keep the order of these fields; by default shuffled.")] = None,
    columns: Annotated[str | None, typer.Option(help="Only these fields, with commas between them.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any key of a configuration: split.seed=7.")] = None,
    new_version: Annotated[bool, typer.Option(help="Publish although the dataset has another configuration.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the configuration and the passes; do nothing.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another job that holds the dataset.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only the result.")] = False,
) -> None:
    """Publish the samples of INPUT, none lost and none changed. --debug shows the trace of an error."""
    config = migration(
        source, output, shards=shards, file_format=file_format, name=name, split=split, order_by=order_by, columns=columns,
        settings=settings or (),
    )  # fmt: skip
    if dry_run:
        typer.echo(plan_text(config, stored_schema(config)))
        return
    migrated = migrate(config, new_version=new_version, wait_seconds=wait, quiet=quiet)
    typer.echo(result_json(migrated) if as_json else result_text(migrated))


if __name__ == "__main__":
    run(app, name="migrate.py")
