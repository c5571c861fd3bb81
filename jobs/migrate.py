"""Migrate a dataset of Petastorm, Parquet files, WebDataset tars or MosaicML's MDS, and show that nothing was lost or changed.

./spark-submit.sh jobs/migrate.py INPUT --output URL [--shards 8] [--split train] [--dry-run]
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.spark.messages import plan_text
from shardwright.spark.migrate import migrate, migrated_json, migrated_text, migration
from shardwright.spark.pipeline import stored_schema

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Format(StrEnum):
    """What the input is."""

    AUTO = "auto"
    PETASTORM = "petastorm"
    PARQUET = "parquet"
    WEBDATASET = "webdataset"
    MDS = "mds"


@app.command()
def main(
    url: Annotated[
        str, typer.Argument(metavar="INPUT", help="The folder of the dataset, a path or a URL.", show_default=False)
    ],
    output: Annotated[str, typer.Option(help="Where the new dataset goes.", show_default=False)],
    input_format: Annotated[Format, typer.Option("--format", help="What INPUT is; auto looks.")] = Format.AUTO,
    shards: Annotated[int, typer.Option(min=1, help="How many shards, one for each node.")] = 1,
    order_by: Annotated[str | None, typer.Option(help="Keep the order of these fields, with commas, not shuffled.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A key of a configuration: read.columns='[\"id\"]'.")
    ] = None,
    new_version: Annotated[bool, typer.Option(help="Publish although the dataset has another configuration.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the resolved configuration and the passes; do nothing.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another job that holds the dataset.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only the result.")] = False,
) -> None:
    """Make a dataset of INPUT. Checksums of every field, before and after, show that no sample was lost or changed."""
    order = [name.strip() for name in order_by.split(",")] if order_by else []
    config = migration(url, output, format=input_format.value, shards=shards, order_by=order, overrides=settings or [])
    if dry_run:
        typer.echo(plan_text(config, stored_schema(config)))
        return
    done = migrate(config, new_version=new_version, wait_seconds=wait, quiet=quiet)
    typer.echo(migrated_json(done) if as_json else migrated_text(done))


if __name__ == "__main__":
    run(app, name="migrate.py")
