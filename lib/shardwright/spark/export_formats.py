"""What an export writes: how the samples of a part become files of each format, and what lies beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from shardwright.format import mds, tfrecord, webdataset
from shardwright.format.features import FEATURES
from shardwright.format.manifest import FileDigest
from shardwright.schema import Schema

FormatName = Literal["mds", "tfrecord", "webdataset"]
CompressionKind = Literal["gzip", "none"]
MDS_SHARD_BYTES = 2**26
"""An MDS shard is cut before it has more, unless it has one sample alone: what the library downloads and evicts at once."""

Batches = Iterable[Mapping[str, npt.NDArray[Any]]]
"""Decoded samples, as `Dataset.take` gives them; pictures are object arrays of their encoded bytes."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to be written: its name in the directory of the split, and its content, to be asked for once."""

    name: str
    pieces: Iterable[bytes]
    samples: int | None = None
    raw: FileDigest | None = None
    """What it holds before it is compressed, where the format lists that."""


class Written(BaseModel):
    """A file of an export that is there: `digest` is of what is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: FileDigest
    samples: int | None = None
    raw: FileDigest | None = None


class FileFormat(Protocol):
    """One format; small, it travels to the executors."""

    @property
    def suffix(self) -> str:
        """Of its files, before that of their compression."""

    @property
    def compression(self) -> CompressionKind:
        """Unless another is asked for."""

    def check(self, schema: Schema) -> None:
        """Raise SchemaError for fields that have no form in it."""

    def files(self, schema: Schema, batches: Batches, part: int, stem: str) -> Iterator[File]:
        """The files of part number `part` of a split, whose names begin with `stem`, one after the other."""

    def beside(self, schema: Schema, written: Sequence[Written], compression: CompressionKind) -> dict[str, bytes]:
        """What else has to lie in the directory of a split with these files, by name."""

    def how_to_read(self, folder: str, compression: CompressionKind) -> list[str]:
        """Lines of Python that read a split."""


@dataclass(frozen=True)
class TfrecordFormat:
    """`tf.train.Example` in TFRecord files, a file for each part."""

    suffix: str = ".tfrecord"
    compression: CompressionKind = "gzip"

    def check(self, schema: Schema) -> None:
        """Every field has a form."""

    def files(self, schema: Schema, batches: Batches, part: int, stem: str) -> Iterator[File]:  # noqa: ARG002
        """One."""
        examples = (one for batch in batches for one in tfrecord.encode_examples(schema, batch))
        yield File(name=f"{stem}{self.suffix}", pieces=map(tfrecord.frame, examples))

    def beside(self, schema: Schema, written: Sequence[Written], compression: CompressionKind) -> dict[str, bytes]:  # noqa: ARG002
        """Nothing."""
        return {}

    def how_to_read(self, folder: str, compression: CompressionKind) -> list[str]:
        """By tf.data."""
        return [
            "import tensorflow as tf",
            f'files = tf.data.Dataset.list_files("{folder}/*.tfrecord*", shuffle=False)',
            f"records = tf.data.TFRecordDataset(files, compression_type={json.dumps('GZIP' if compression == 'gzip' else '')})",
            f"({FEATURES} says what the features are, docs/jobs.md how they are parsed)",
        ]


@dataclass(frozen=True)
class WebDatasetFormat:
    """WebDataset tar files, one for each part; a sample's key is the part's number and its own in it."""

    suffix: str = ".tar"
    compression: CompressionKind = "none"

    def check(self, schema: Schema) -> None:
        """A sample needs a member."""
        webdataset.check_schema(schema)

    def files(self, schema: Schema, batches: Batches, part: int, stem: str) -> Iterator[File]:
        """One."""
        yield File(name=f"{stem}{self.suffix}", pieces=self._pieces(schema, batches, part))

    def beside(self, schema: Schema, written: Sequence[Written], compression: CompressionKind) -> dict[str, bytes]:  # noqa: ARG002
        """Nothing."""
        return {}

    def how_to_read(self, folder: str, compression: CompressionKind) -> list[str]:
        """By the library."""
        suffix = ".tar.gz" if compression == "gzip" else ".tar"
        return [
            "import glob, webdataset",
            f'files = sorted(glob.glob("{folder}/*{suffix}"))',
            "samples = webdataset.WebDataset(files, shardshuffle=False).decode()",
            "(docs/jobs.md says what the members of a sample are)",
        ]

    def _pieces(self, schema: Schema, batches: Batches, part: int) -> Iterator[bytes]:
        row = 0
        for batch in batches:
            count = len(next(iter(batch.values())))
            keys = [f"{part:05d}-{number:08d}" for number in range(row, row + count)]
            yield from webdataset.encode_samples(schema, batch, keys)
            row += count
        yield webdataset.END


@dataclass(frozen=True)
class MdsFormat:
    """Shards of MosaicML Streaming, some for each part, and the index that lists them."""

    suffix: str = ".mds"
    compression: CompressionKind = "none"

    def check(self, schema: Schema) -> None:
        """There are no nulls."""
        mds.columns_of(schema)

    def files(self, schema: Schema, batches: Batches, part: int, stem: str) -> Iterator[File]:  # noqa: ARG002
        """As many as `MDS_SHARD_BYTES` make of it; each is made in memory, for it begins with where its samples lie."""
        samples = (one for batch in batches for one in mds.encode_samples(schema, batch))
        for number, group in enumerate(_cut(samples, MDS_SHARD_BYTES)):
            data = mds.encode_shard(group, mds.columns_of(schema))
            name = f"{stem}.{number:05d}{self.suffix}"
            raw = FileDigest(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            yield File(name=name, pieces=(data,), samples=len(group), raw=raw)

    def beside(self, schema: Schema, written: Sequence[Written], compression: CompressionKind) -> dict[str, bytes]:
        """The index."""
        zipped = compression == "gzip"
        described = {
            **mds.describe_columns(mds.columns_of(schema)), "compression": "gz" if zipped else None, "hashes": ["sha256"],
            "size_limit": MDS_SHARD_BYTES,
        }  # fmt: skip
        shards = [
            {
                **described, "samples": one.samples, "raw_data": _about(one.raw),
                "zip_data": _about(one.digest) if zipped else None,
            }
            for one in written
        ]  # fmt: skip
        return {mds.INDEX: json.dumps({"version": mds.VERSION, "shards": shards}, sort_keys=True).encode()}

    def how_to_read(self, folder: str, compression: CompressionKind) -> list[str]:  # noqa: ARG002
        """By the library."""
        return [
            "from streaming import StreamingDataset",
            f'samples = StreamingDataset(local="{folder}", batch_size=32)',
            "(docs/jobs.md says what encodings the fields have)",
        ]


FORMATS: dict[FormatName, FileFormat] = {
    "mds": MdsFormat(), "tfrecord": TfrecordFormat(), "webdataset": WebDatasetFormat()
}  # fmt: skip


def _cut(samples: Iterator[bytes], most: int) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for sample in samples:
        if group and size + len(sample) > most:
            yield group
            group, size = [], 0
        group.append(sample)
        size += len(sample) + 4
    if group:
        yield group


def _about(digest: FileDigest | None) -> dict[str, Any]:
    assert digest is not None  # every file of MDS has one
    name = digest.name.rpartition("/")[2]
    return {"basename": name, "bytes": digest.bytes, "hashes": {"sha256": digest.sha256}}
