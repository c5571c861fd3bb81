"""What a prepare job prints on standard output: what it would do, and what it did."""

from __future__ import annotations

import json

from shardwright.config import Config, Recipe
from shardwright.format.layout import columns
from shardwright.format.manifest import Counts, Manifest
from shardwright.format.petastorm import stock_petastorm_form
from shardwright.schema import Schema
from shardwright.stages.publish import Published
from shardwright.transforms import describe, describe_compression


def plan_text(config: Config, stored: Schema | None) -> str:
    """The resolved configuration, the passes, and what is to be known of the `stored` fields, for a dry run."""
    at_read = ", ".join(config.standardise.at_read()) or "nothing"
    at_write = config.standardise.at_write()
    fit = [f"fit      {', '.join(at_write)} to the published samples of split {config.standardise.split}"] if at_write else []
    encoded = [f"{name} {how.named[0]}" for name, how in sorted(config.compress.fields.items())]
    compressed = ", ".join(encoded) or "nothing but the columns that are always"
    shard = config.shard
    counts = "".join(f", {count} of {name}" for name, count in shard.per_split.items())
    order = f"in the order of {', '.join(shard.order_by)}" if shard.order_by else "shuffled"
    steps = ["read", "clean", *(f"map ({options.function})" for options in config.map), f"split ({_split(config)})", "stage"]
    passes = [
        f"read     {config.read.format} from {config.read.query or ', '.join(config.read.paths)}: {', '.join(steps)}",
        *([f"split    cut each class of {config.split.stratify!r} exactly"] if config.split.stratify else []),
        (
            f"place    find where each part of {shard.count} shards{counts} begins ({order}; remainder: {shard.remainder});"
            " number samples of equal key"
        ),
        *fit,
        f"write    parts with checksums and statistics (standardised at read: {at_read}; compressed: {compressed})",
        f"publish  {config.output}",
    ]
    resolved = json.dumps(config.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False)
    notes = reader_notes(config.recipe(), stored) if stored else []
    lines = [resolved, "", "passes:", *(f"  {line}" for line in passes), *(f"note: {note}" for note in notes)]
    return "\n".join(lines)


def _split(config: Config) -> str:
    split = config.split
    if split.column:
        return split.column
    shares = ", ".join(f"{name} {share:g}" for name, share in (split.fractions or {"train": 1.0}).items())
    return shares + (f" of each {split.stratify}" if split.stratify else "") + (f" by {split.group}" if split.group else "")


def result_text(published: Published) -> str:
    """Where the dataset lies, what is in it, and how to read it."""
    manifest = published.manifest
    lines = [f"{published.url} {published.version}: {published.note}", *_splits(manifest), *_transforms(manifest)]
    counts = manifest.lineage.counts
    lines.append(f"  samples: {_sum(counts, 'read', 'padded')} = {_sum(counts, 'published', *_LEFT_OUT)}")
    if counts.quarantined:
        lines.append(f"  rejected samples, each with its reason: {published.url}/{published.version}/_quarantine")
    lines += [f"  carried samples wait for a later version in {file.name}" for file in manifest.lineage.carried]
    return "\n".join([*lines, "", "read it:", "", *_reading(published)])


def check_text(config: Config, *, due: bool) -> str:
    """Whether a prepare job has something to do."""
    what = "new input, or another configuration" if due else "nothing to do: same configuration, same inputs"
    return f"{config.output}: {what}"


def check_json(config: Config, *, due: bool) -> str:
    """The same for a scheduler, in one line."""
    found = {"status": "due" if due else "unchanged", "exit_code": 0 if due else 4, "url": config.output}
    return json.dumps(found, ensure_ascii=False)


def result_json(published: Published) -> str:
    """The same for a scheduler, in one line."""
    manifest = published.manifest
    splits = {
        name: {
            "samples": split.samples, "shards": len(split.shards), "bytes": sum(shard.bytes for shard in split.shards),
        }
        for name, split in manifest.content.splits.items()
    }  # fmt: skip
    found = {
        "status": "published" if published.new else "unchanged", "exit_code": 0, "url": published.url,
        "version": published.version, "content_id": manifest.content_id, "splits": splits,
        "counts": manifest.lineage.counts.model_dump(), "note": published.note,
    }  # fmt: skip
    return json.dumps(found, ensure_ascii=False)


_LEFT_OUT = ("quarantined", "filtered", "dropped", "carried")


def _sum(counts: Counts, first: str, *others: str) -> str:
    """Counts as a sum: of all but the first those that are not 0."""
    names = [first, *(name for name in others if getattr(counts, name))]
    return " + ".join(f"{getattr(counts, name):,} {name}" for name in names)


def _splits(manifest: Manifest) -> list[str]:
    out = []
    for name, split in manifest.content.splits.items():
        sizes = sorted({shard.samples for shard in split.shards})
        each = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} or {sizes[-1]:,}"
        size = sum(shard.bytes for shard in split.shards)
        out.append(f"  {name}: {split.samples:,} samples in {len(split.shards)} shards of {each}, {size / 1e6:,.1f} MB")
    return out


def _transforms(manifest: Manifest) -> list[str]:
    content = manifest.content
    return [
        *(f"  {fitted.field}: {describe(fitted)}; of split {content.statistics.split}" for fitted in content.transforms),
        *(f"  {name}: {describe_compression(found)}" for name, found in sorted(content.compression.items())),
    ]


def reader_notes(recipe: Recipe, stored: Schema) -> list[str]:
    """What others will not read as this package's reader does: one line for each such column of a `stored` schema."""
    forms = ((field.name, stock_petastorm_form(field)) for field in stored)
    compress, pad = recipe.compress, recipe.shard.remainder == "pad"
    coded = {name for name, policy in recipe.standardise.at_write().items() if policy.method == "one_hot"}
    unknown = coded - compress.fields.keys()  # of a length that the fit says, so not compressed by Parquet, as it looks yet
    layout = columns(stored, compressed=compress.column_codecs, default=compress.columns, pad=pad)
    unread = [one for one in layout if one.kind == "compressed" and not one.codec.spark_reads and one.name not in unknown]
    return [
        *(f"{name}: stock Petastorm gives {form}" for name, form in forms if form),
        *(
            f"{column.name}: Spark does not read {column.codec.name} columns without a Hadoop codec for them"
            for column in unread
        ),
    ]


def _reading(published: Published) -> list[str]:
    split = published.manifest.content.statistics.split
    normalise = tuple(transform.field for transform in published.manifest.content.transforms if transform.at == "read")
    option = f", normalise={normalise}" if normalise else ""
    return [
        "  import shardwright as sw",
        f'  {split} = sw.open_dataset("{published.url}", split="{split}")',
        f"  for batch in {split}.loader(batch_size=256, world=sw.World.from_env(), seed=7{option}):",
        "      ...",
    ]
