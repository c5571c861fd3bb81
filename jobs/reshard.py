"""Cut published versions into another number of shards; filter, merge or reorder them; without preparing again.

./spark-submit.sh jobs/reshard.py URL [URL …] --output URL --shards N [--remainder spread] [--where "label < 5"] [--dry-run]
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from shardwright.cli import run
from shardwright.config import publish_options
from shardwright.spark.messages import result_json, result_text
from shardwright.spark.reshard import ReshardOptions, open_reshard, reshard

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Remainder(StrEnum):
    """What becomes of samples that do not divide by the number of shards."""

    DROP = "drop"
    PAD = "pad"
    SPREAD = "spread"
    CARRY = "carry"


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


@app.command()
def main(
    sources: Annotated[list[str], typer.Argument(help="Published datasets.", show_default=False)],
    output: Annotated[str, typer.Option(help="Where the result goes; a source: as its new version.", show_default=False)],
    shards: Annotated[int, typer.Option(min=1, max=99_999, help="Shards of each split.", show_default=False)],
    remainder: Annotated[Remainder | None, typer.Option(help="By default as in the first source.")] = None,
    where: Annotated[str | None, typer.Option(help='Only these samples: "label < 5".')] = None,
    splits: Annotated[str | None, typer.Option(help="Only these splits, with commas between them.")] = None,
    order_by: Annotated[str | None, typer.Option(help="Order by these fields, with commas between them.")] = None,
    seed: Annotated[int | None, typer.Option(help="Shuffle anew.")] = None,
    part_bytes: Annotated[int | None, typer.Option(min=1, help="As shard.part_bytes.")] = None,
    row_group_bytes: Annotated[int | None, typer.Option(min=1, max=2**30, help="As shard.row_group_bytes.")] = None,
    block_bytes: Annotated[int | None, typer.Option(min=1, help="As shard.block_bytes.")] = None,
    window_blocks: Annotated[int | None, typer.Option(min=1, help="As shard.window_blocks.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="On HDFS: publish.replication=3.")] = None,
    version: Annotated[str, typer.Option(help="The version of a single source.")] = "latest",
    new_version: Annotated[bool, typer.Option(help="Publish to another dataset although it is there.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done and lost; do nothing.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for another job that holds the dataset.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="No progress, only warnings and the result.")] = False,
) -> None:
    """Publish the stored samples of SOURCES, cut anew. --debug shows the trace of an error."""
    options = ReshardOptions(
        shards=shards, remainder=remainder.value if remainder else None, where=where, splits=_names(splits),
        order_by=_names(order_by), seed=seed, part_bytes=part_bytes, row_group_bytes=row_group_bytes, block_bytes=block_bytes,
        window_blocks=window_blocks,
    )  # fmt: skip
    hdfs = publish_options(settings or (), output)
    work = open_reshard(sources, options, version=version)
    for note in work.notes():
        if not quiet or dry_run or note.startswith("warning"):
            typer.echo(note, err=not dry_run)
    if not dry_run:
        published = reshard(work, output, hdfs=hdfs, new_version=new_version, wait_seconds=wait, quiet=quiet)
        typer.echo(result_json(published) if as_json else result_text(published))


if __name__ == "__main__":
    run(app, name="reshard.py")
