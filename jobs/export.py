"""Export a published version as TFRecord files, WebDataset tars or MDS shards, which TensorFlow and those libraries read.

./spark-submit.sh jobs/export.py URL --output DIR [--to webdataset] [--split train] [--columns image,label] [--compression none]
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.spark.export import describe, export, result_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Format(StrEnum):
    """What can be written."""

    TFRECORD = "tfrecord"
    WEBDATASET = "webdataset"
    MDS = "mds"


class Compression(StrEnum):
    """How files are compressed."""

    GZIP = "gzip"
    NONE = "none"


@app.command()
def main(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.", show_default=False)],
    output: Annotated[str, typer.Option(help="A directory that does not exist yet.", show_default=False)],
    to: Annotated[Format, typer.Option(help="What is written.")] = Format.TFRECORD,
    split: Annotated[list[str] | None, typer.Option(help="A split, may be repeated; by default all.")] = None,
    columns: Annotated[str | None, typer.Option(help="Fields, with commas between them; by default all.")] = None,
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
    compression: Annotated[
        Compression | None, typer.Option(help="How files are compressed; by default gzip for tfrecord, else none.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another job that writes there.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only the result.")] = False,
) -> None:
    """Write the samples of a version to files of another format."""
    names = [name.strip() for name in columns.split(",")] if columns is not None else None
    done = export(
        url, output, to=to.value, version=version, splits=split or (), columns=names,
        compression=compression.value if compression else None, wait_seconds=wait, quiet=quiet,
    )  # fmt: skip
    typer.echo(result_json(done) if as_json else describe(done))


if __name__ == "__main__":
    run(app, name="export.py")
