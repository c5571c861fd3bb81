"""B7: how far from a permutation of all samples a contender's order is, where the input is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.benchmarks.contenders import say
from tests.benchmarks.peers.contenders import SHARDWRIGHT, PeerSettings, start
from tests.benchmarks.peers.process import Job, shuffle_quality
from tests.benchmarks.peers.source import ARRAY_3K, write_source
from tests.benchmarks.table import table

_TEXT = """## Shuffle quality

{samples:,} arrays of 32x32x3, numbered in the order that they were written in, and one epoch of each contender without
workers, with the settings above. *Neighbours*: the correlation of the numbers of consecutive samples (0 for a permutation).
*Same source*: how many consecutive samples come from the same hundredth of the input (0.01). *Displacement*: how far samples
move, in shares of the epoch (0.333). *Batches*: the standard deviation of the batches' mean numbers, beside that of a
permutation (1). shardwright's window is 64 blocks of 1 MiB per shard; LitData's chunks, MosaicML Streaming's and WebDataset's
files have 16 MB.
"""


def run(settings: PeerSettings) -> str:
    """The Markdown of the group."""
    kind = replace(ARRAY_3K, samples=settings.scaled(ARRAY_3K.samples, ARRAY_3K.batch))
    source = write_source(settings.work / "source", kind)
    rows = [_row("a permutation", shuffle_quality(np.random.default_rng(1).permutation(kind.samples), kind.batch))]
    ours = [(SHARDWRIGHT, variant) for variant in ("global", "window")]
    for peer, variant in [*ours, *((peer, "") for peer in settings.peers)]:
        say(f"shuffle quality: {peer.name} {variant}")
        job = Job(verb="epochs", reader=peer.reader, source=str(source.folder), store=str(settings.work / peer.stored_by),
                  variant=variant, most_epochs=0)  # fmt: skip
        if peer.store is None and variant != "window":
            start(peer, replace(job, verb="convert"), settings.work)
        found = start(peer, job, settings.work).found
        rows.append(_row(f"{peer.name} {variant}".strip(), found["shuffle"]))
    head = ("", "neighbours", "same source", "displacement", "batches")
    return f"{_TEXT.format(samples=kind.samples)}\n{table(head, rows)}"


def _row(name: str, found: Sequence[float]) -> tuple[str, ...]:
    return (name, *(f"{value:.3f}" for value in found))
