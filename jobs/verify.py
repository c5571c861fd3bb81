"""Verify a published version on Spark: checksums, counts and places of every part, and the statistics recomputed.

./spark-submit.sh jobs/verify.py URL [--version v000003] [--json]
"""

from __future__ import annotations

from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.cli.verify import show
from shardwright.spark.verify import verify

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.", show_default=False)],
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="The report as one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only the result.")] = False,
) -> None:
    """Compare all of a version with what was published. Exit code 1 when anything is wrong."""
    show(verify(url, version=version, quiet=quiet), as_json=as_json)


if __name__ == "__main__":
    run(app, name="verify.py")
