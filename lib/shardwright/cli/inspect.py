"""``shardwright inspect URL``: what a version is, from its manifest alone."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from shardwright.cli.output import out, size, table
from shardwright.codecs.npy import show_shape
from shardwright.format.manifest import Content, Manifest
from shardwright.format.versions import read_manifest
from shardwright.storage import open_storage
from shardwright.transforms import describe, describe_compression


def inspect(
    url: Annotated[str, typer.Argument(help="The dataset: a path or URL.")],
    version: Annotated[str, typer.Option(help="A version such as v000003, or latest.")] = "latest",
    as_json: Annotated[bool, typer.Option("--json", help="The whole manifest as JSON.")] = False,
) -> None:
    """Show a dataset's splits, samples per shard, fields, statistics, plan and lineage."""
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    console = out()
    if as_json:
        console.print(json.dumps(json.loads(manifest.to_json()), indent=2, ensure_ascii=False))
        return
    console.print(f"{storage.url} {name}")
    console.print(f"content_id {manifest.content_id}")
    console.print(f"created {manifest.provenance.created} by {manifest.provenance.user} on {manifest.provenance.host}\n")
    _splits(console, manifest.content)
    _fields(console, manifest.content)
    _plan(console, manifest)


def _splits(console: Console, content: Content) -> None:
    found = table("split", "samples", "shards", "samples per shard", "parts", "size")
    for name, split in sorted(content.splits.items()):
        sizes = sorted({shard.samples for shard in split.shards})
        samples = f"{split.samples:,}" + (f" ({split.padded} of them repeated)" if split.padded else "")
        found.add_row(
            name, samples, str(len(split.shards)), " or ".join(f"{each:,}" for each in sizes),
            str(sum(shard.parts for shard in split.shards)), size(sum(shard.bytes for shard in split.shards)),
        )  # fmt: skip
    console.print(found, "")


def _fields(console: Console, content: Content) -> None:
    found = table("field", "dtype", "shape", "codec", "mean", "std", "min", "max", "missing")
    for field in content.dataset_schema:
        known = content.statistics.fields.get(field.name)
        numbers = [_numbers(getattr(known, name, ())) for name in ("mean", "std", "min", "max")]
        shape, codec = show_shape(field.shape) if field.shape else "", field.codec.name if field.codec else ""
        dtype = field.dtype + (" or null" if field.nullable else "")
        found.add_row(field.name, dtype, shape, codec, *numbers, str(known.missing) if known else "")
    console.print(found)
    console.print(f"statistics of the split {content.statistics.split!r}")
    for fitted in content.transforms:
        console.print(f"{fitted.field}: {describe(fitted)}")
    for name, compressed in sorted(content.compression.items()):
        console.print(f"{name}: {describe_compression(compressed)}")
    console.print()


def _numbers(values: tuple[float | int | None, ...]) -> str:
    return " ".join("-" if value is None else f"{value:.6g}" for value in values)


def _plan(console: Console, manifest: Manifest) -> None:
    plan, lineage = manifest.content.plan, manifest.lineage
    order = f"in the order of {', '.join(plan.order_by)}" if plan.order_by else plan.order
    console.print(
        f"plan: {order}, seed {plan.seed}, remainder {plan.remainder}, blocks of {plan.block_samples} samples, windows of "
        f"{plan.window_blocks} blocks"
    )
    counts = lineage.counts
    became = [f"{name} {getattr(counts, name):,}" for name in ("published", "quarantined", "dropped", "carried", "filtered")]
    console.print(
        f"lineage: read {counts.read:,} + padded {counts.padded:,} = {' + '.join(became)}; parent {lineage.parent or 'none'}"
    )
    for source in lineage.inputs[:10]:
        console.print(f"  {source.path}" + (f" ({size(source.bytes)})" if source.bytes is not None else ""))
    if len(lineage.inputs) > 10:
        console.print(f"  … and {len(lineage.inputs) - 10:,} more inputs")
