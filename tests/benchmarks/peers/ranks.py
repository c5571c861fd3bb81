"""B6: which samples the ranks of a world get, where the number of samples divides by no world size. Nothing is timed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.benchmarks.contenders import say
from tests.benchmarks.peers.contenders import SHARDWRIGHT, PeerSettings, start
from tests.benchmarks.peers.process import Job
from tests.benchmarks.peers.source import Kind, write_source
from tests.benchmarks.table import table

_KIND = Kind(name="equal", content="array", samples=1003, shape=(4, 4, 3), batch=10)
_WORLDS = (2, 3, 4, 7, 8)
_READERS = ("litdata", "mosaicml", "huggingface", "petastorm", "torch_files")
_TEXT = """## Equal ranks

1,003 samples on 2, 3, 4, 7 and 8 ranks, an epoch of each, batches of 10, settings as documented, nothing dropped by request.
Cells say how many samples the poorest and the richest rank get, then how many samples no rank gets ("left"), and how many are
given more than once ("again"). Where ranks get different numbers, the collective operations of training hang at the end of an
epoch. shardwright's dataset is one shard here, and so is the one that stock Petastorm reads, in row groups of 16 samples.
"""


def run(settings: PeerSettings) -> str:
    """The Markdown of the group."""
    source = write_source(settings.work / "source", _KIND)
    rows = []
    for peer in [SHARDWRIGHT, *(peer for peer in settings.peers if peer.reader in _READERS)]:
        say(f"equal ranks: {peer.name}")
        job = Job(verb="ranks", reader=peer.reader, source=str(source.folder), store=str(settings.work / peer.stored_by),
                  variant="ranks", worlds=_WORLDS)  # fmt: skip
        if peer.store is None:
            start(peer, replace(job, verb="convert"), settings.work)
        worlds = start(peer, job, settings.work).found["worlds"]
        rows.append((peer.name, *(_cell(worlds[str(world)]) for world in _WORLDS)))
    return f"{_TEXT}\n{table(('', *(f'{world} ranks' for world in _WORLDS)), rows)}"


def _cell(ranks: list[list[int]]) -> str:
    counts = Counter(label for labels in ranks for label in labels)
    sizes = [len(labels) for labels in ranks]
    equal = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)}–{max(sizes)}"
    return f"{equal}; left {_KIND.samples - len(counts)}, again {sum(counts.values()) - len(counts)}"
