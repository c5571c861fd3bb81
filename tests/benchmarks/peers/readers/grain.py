"""Contender: Grain over ArrayRecord files with one record in a group. It reads with threads, 16 by default, in this process."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.pictures import normalised, picture
from tests.benchmarks.peers.process import Epochs, Job
from tests.benchmarks.peers.source import Kind, Source

_LABEL = struct.Struct("<q")


def convert(job: Job) -> None:
    """A record is the number, then the bytes."""
    from array_record.python.array_record_module import ArrayRecordWriter  # type: ignore[import-not-found]

    source, store = Source.open(Path(job.source)), Path(job.store)
    store.mkdir()
    writer = ArrayRecordWriter(str(store / "values.array_record"), "group_size:1,uncompressed")
    for label, value in source.samples():
        writer.write(_LABEL.pack(label) + bytes(value))
    writer.close()


def epochs(job: Job) -> Epochs:
    """`MapDataset.shuffle`: a permutation of all samples."""
    import grain  # type: ignore[import-not-found]

    kind = Source.open(Path(job.source)).kind
    source = grain.sources.ArrayRecordDataSource([str(Path(job.store) / "values.array_record")])

    def epoch(number: int) -> Any:
        dataset = grain.MapDataset.source(source).shuffle(seed=number).map(_Parse(kind)).batch(kind.batch)
        dataset = dataset.map(_normalise) if job.normalise else dataset
        return dataset.to_iter_dataset()

    return epoch


class _Parse:
    """For `map`."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._dtype = np.float32 if kind.content == "table" else np.uint8

    def __call__(self, record: bytes) -> dict[str, Any]:
        label = np.int64(_LABEL.unpack_from(record)[0])
        if self._kind.content == "picture":
            return {"value": picture(record[_LABEL.size :]), "label": label}
        return {"value": np.frombuffer(record, self._dtype, offset=_LABEL.size).reshape(self._kind.shape), "label": label}


def _normalise(batch: dict[str, Any]) -> dict[str, Any]:
    return batch | {"value": normalised(batch["value"])}
