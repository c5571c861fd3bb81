"""What a prepare job prints on standard output: what it would do, and what it did."""

from __future__ import annotations

import json

from shardwright.config import Config
from shardwright.format.manifest import Manifest
from shardwright.stages.publish import Published


def plan_text(config: Config) -> str:
    """The resolved configuration and the passes, for a dry run."""
    standardised = ", ".join(config.standardise.fields) or "nothing"
    split = config.split.column or ", ".join(f"{k} {v:g}" for k, v in (config.split.fractions or {"train": 1.0}).items())
    passes = [
        f"read     {config.read.format} from {', '.join(config.read.paths)}: read, clean, split ({split}), stage",
        (
            f"place    find where each part of {config.shard.count} shards begins (remainder: {config.shard.remainder});"
            " number samples of equal key"
        ),
        f"write    parts with checksums and statistics (standardised at read: {standardised})",
        f"publish  {config.output}",
    ]
    resolved = json.dumps(config.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False)
    return f"{resolved}\n\npasses:\n" + "\n".join(f"  {line}" for line in passes)


def result_text(published: Published) -> str:
    """Where the dataset lies, what is in it, and how to read it."""
    manifest = published.manifest
    lines = [f"{published.url} {published.version}: {published.note}", *_splits(manifest), *_transforms(manifest)]
    counts = manifest.lineage.counts
    lines.append(
        f"  samples: {counts.read:,} read + {counts.padded:,} padded = {counts.published:,} published"
        f" + {counts.quarantined:,} quarantined + {counts.dropped:,} dropped"
    )
    if counts.quarantined:
        lines.append(f"  rejected samples, each with its reason: {published.url}/{published.version}/_quarantine")
    return "\n".join([*lines, "", "read it:", "", *_reading(published)])


def _splits(manifest: Manifest) -> list[str]:
    out = []
    for name, split in manifest.content.splits.items():
        sizes = sorted({shard.samples for shard in split.shards})
        each = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} or {sizes[-1]:,}"
        size = sum(shard.bytes for shard in split.shards)
        out.append(f"  {name}: {split.samples:,} samples in {len(split.shards)} shards of {each}, {size / 1e6:,.1f} MB")
    return out


def _transforms(manifest: Manifest) -> list[str]:
    return [
        f"  {transform.field}: mean {_numbers(transform.mean)}, std {_numbers(transform.std)}"
        f" (of split {manifest.content.statistics.split}; applied when read)"
        for transform in manifest.content.transforms
    ]


def _numbers(values: tuple[float, ...]) -> str:
    return repr(values[0]) if len(values) == 1 else str(list(values))


def _reading(published: Published) -> list[str]:
    split = published.manifest.content.statistics.split
    normalise = tuple(transform.field for transform in published.manifest.content.transforms)
    option = f", normalise={normalise}" if normalise else ""
    return [
        "  import shardwright as sw",
        f'  {split} = sw.open_dataset("{published.url}", split="{split}")',
        f"  for batch in {split}.loader(batch_size=256, world=sw.World.from_env(), seed=7{option}):",
        "      ...",
    ]
