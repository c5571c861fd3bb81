"""B4: samples at random places, one by one and at once."""

from __future__ import annotations

import statistics
from dataclasses import replace

from tests.benchmarks.contenders import say
from tests.benchmarks.measure import ContenderError, Run
from tests.benchmarks.peers.contenders import LIMITS, SHARDWRIGHT, PeerSettings, start
from tests.benchmarks.peers.process import Job
from tests.benchmarks.peers.source import ARRAY_12K, write_source
from tests.benchmarks.table import ratios, spread, table

_READERS = ("litdata", "mosaicml", "huggingface", "lance")
_SAMPLES = 2000
_TEXT = """## Random samples

{count:,} random ones of {samples:,} arrays of 64x64x3, all in the page cache: one by one, as `dataset[i]`, and at once, where
the contender has a way to ask for several (LitData and MosaicML Streaming have none: theirs is a loop). The limit is a NumPy
array in memory.
"""


def run(settings: PeerSettings) -> str:
    """The Markdown of the group."""
    kind = replace(ARRAY_12K, samples=settings.scaled(ARRAY_12K.samples, ARRAY_12K.batch))
    source = write_source(settings.work / "source", kind)
    peers = [LIMITS, SHARDWRIGHT, *(peer for peer in settings.peers if peer.reader in _READERS)]
    say(f"random samples of {kind.samples:,}")
    runs: dict[str, list[Run]] = {peer.name: [] for peer in peers}
    job = {peer.name: Job(verb="random", reader=peer.reader, source=str(source.folder), store=str(settings.work / peer.reader),
                          indexes=_SAMPLES) for peer in peers}  # fmt: skip
    for peer in peers:
        start(peer, replace(job[peer.name], verb="convert"), settings.work)
    for round_ in range(settings.rounds):
        for peer in peers:
            runs[peer.name].append(start(peer, job[peer.name], settings.work))
        say(f"  round {round_ + 1}/{settings.rounds}")
    limit = runs[LIMITS.name]
    for name, found in runs.items():
        if found[0].found["checksum"] != limit[0].found["checksum"]:
            raise ContenderError(f"{name}: other content than the limit has")
    rows = [(name, *_speeds(found, limit, "one"), *_speeds(found, limit, "many")) for name, found in runs.items()]
    text = _TEXT.format(count=min(_SAMPLES, kind.samples), samples=kind.samples)
    return f"{text}\n{table(('', 'one by one, samples/s', 'of the limit', 'at once, samples/s', 'of the limit'), rows)}"


def _speeds(runs: list[Run], limits: list[Run], way: str) -> tuple[str, str]:
    speeds = [run.found["count"] / statistics.median(run.found[way]) for run in runs]
    most = [run.found["count"] / statistics.median(run.found[way]) for run in limits]
    return spread(speeds, 0), "" if runs is limits else ratios(speeds, most, 3)
