"""Where the datasets lie that stock Petastorm wrote, and their metadata."""

from __future__ import annotations

from pathlib import Path

from shardwright.format.common_metadata import CommonMetadata, read_common_metadata
from shardwright.format.petastorm import unischema_of
from shardwright.format.unischema_pickle import dump_unischema
from shardwright.schema import Schema

DATA = Path(__file__).resolve().parent / "data"
DATASETS = ("arrays", "hello_world", "ngram", "partitioned", "scalars", "scalars-p0.12.1", "upstream-0.7.6")
LEGACY = ("0.4.0", "0.4.3", "0.5.1", "0.6.0", "0.7.0")
METADATA = {
    **{name: DATA / name / "data/_common_metadata" for name in DATASETS},
    **{f"legacy-{version}": DATA / "legacy" / version / "_common_metadata" for version in LEGACY},
}


def stored(name: str) -> CommonMetadata:
    return read_common_metadata(METADATA[name].read_bytes())


def stored_pickle(name: str) -> bytes:
    pickled = stored(name).unischema
    assert pickled is not None
    return pickled


def our_pickle(fields: Schema, name: str) -> bytes:
    return dump_unischema(unischema_of(fields, name))
