"""Contender: shardwright, from a dataset in 4 shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import MEAN, SIDE, STD, TWICE
from tests.benchmarks.peers.process import Epochs, Job
from tests.benchmarks.peers.source import Kind, Source

_SHARDS = 4
_ROW_GROUP_BYTES = 32 * 2**20
_BLOCK_BYTES = 2**20


def convert(job: Job) -> None:
    """`variant="zstd"`: the columns of a table compressed; `"ranks"`: one shard of small row groups."""
    from shardwright.schema import Field, Schema
    from tests.datasets import publish

    source = Source.open(Path(job.source))
    kind = source.kind
    values: dict[str, Any]
    if kind.content == "table":
        values = dict(zip(kind.columns, np.ascontiguousarray(source.values.T), strict=True))
        fields = [Field(name=name, dtype="float32") for name in kind.columns]
    elif kind.content == "picture":
        values = {"value": source.pictures()}
        fields = [Field(name="value", dtype="uint8", shape=(None, None, 3), codec="image")]
    else:
        values = {"value": source.values}
        fields = [Field(name="value", dtype="uint8", shape=kind.shape)]
    schema = Schema(fields=(*fields, Field(name="label", dtype="int64")))
    stored = _stored_bytes(kind, source)
    publish(
        Path(job.store), {"train": values | {"label": source.labels}}, schema, shards=1 if job.variant == "ranks" else _SHARDS,
        part_samples=kind.samples, row_group_samples=16 if job.variant == "ranks" else max(1, _ROW_GROUP_BYTES // stored),
        block_samples=max(1, _BLOCK_BYTES // stored), window_blocks=64,
        compressed=kind.columns if job.variant == "zstd" else (),
    )  # fmt: skip


def epochs(job: Job) -> Epochs:
    """Threads for workers. Every sample in a global order; of the variants "zstd" and "window" in that of a window."""
    import shardwright

    dataset = shardwright.open_dataset(job.store, split="train")
    kind = Source.open(Path(job.source)).kind
    loader = dataset.loader(
        batch_size=kind.batch, world=shardwright.World(), seed=1, threads=job.workers,
        shuffle="window" if job.variant in ("zstd", "window") else "global",
        decode={"value": _geometry(kind)} if kind.content == "picture" else None,
        normalise={"value": (MEAN, STD)} if job.normalise else False,
    )  # fmt: skip
    return lambda _: loader


def random(job: Job) -> tuple[Callable[[int], Any], Callable[[list[int]], Any]]:
    """`Dataset.__getitem__` and `Dataset.take`."""
    import shardwright

    dataset = shardwright.open_dataset(job.store, split="train", columns=["value"])
    return lambda index: dataset[index]["value"], lambda indexes: dataset.take(indexes)["value"]


def rank(job: Job) -> Iterable[int]:
    """`World(rank=, size=)`."""
    import shardwright

    dataset = shardwright.open_dataset(job.store, split="train", columns=["label"])
    world = shardwright.World(rank=job.rank, size=job.world)
    loader = dataset.loader(batch_size=10, world=world, seed=1, shuffle="global", epochs=1)
    return (label for batch in loader for label in batch["label"])


def _geometry(kind: Kind) -> Any:
    """As `pictures.middle` has it: the middle 224 pixels, or the middle 448 halved."""
    import shardwright

    side = min(kind.shape[:2])
    return shardwright.CenterCrop(SIDE, resize=None if side < TWICE else side * SIDE // TWICE)


def _stored_bytes(kind: Kind, source: Source) -> int:
    if kind.content == "picture":
        return (source.folder / "pictures.bin").stat().st_size // kind.samples
    return source.values[0].nbytes
