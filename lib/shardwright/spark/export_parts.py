"""The executors' half of an export: each part becomes files, and a note of them, from which a killed run goes on."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from shardwright.format.batch import to_arrays
from shardwright.format.manifest import FileDigest
from shardwright.reader.stored import part_files, stored_samples
from shardwright.reader.verify_part import sha256_of
from shardwright.schema import Schema
from shardwright.spark.export_formats import FORMATS, CompressionKind, File, FormatName, Written
from shardwright.spark.published import published_parts
from shardwright.spark.reading import REPORT
from shardwright.storage import WritableStorage

TEMPORARY = "_temporary"
DONE = "_done"
"""The directory with a note for each part that is finished, until all are."""
SUFFIXES: dict[CompressionKind, str] = {"gzip": ".gz", "none": ""}
_GZIP_LEVEL = 6


@dataclass(frozen=True)
class Part:
    """Part `number` of the `count` parts of a split, which is the part number `index` of the version."""

    split: str
    number: int
    count: int
    index: int


class PartWritten(BaseModel):
    """The files of a part, all of which are there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    number: int
    files: tuple[Written, ...]


@dataclass(frozen=True, kw_only=True)
class WriteParts:
    """Writes the parts whose numbers Spark hands out."""

    url: str
    version: str
    index_sha256: str
    schema: Schema
    format: FormatName
    compression: CompressionKind
    parts: list[Part]
    target: WritableStorage

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What was written of each of these parts, by now or by a run that was killed."""
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                part = self.parts[number]
                done = f"{DONE}/{part.split}-{part.number:05d}.json"
                if not self.target.exists(done):
                    self.target.write(done, self._write(part).model_dump_json().encode())
                yield pa.RecordBatch.from_pylist([{"report": self.target.read(done).decode()}], REPORT)

    def _write(self, part: Part) -> PartWritten:
        rows = published_parts(self.url, self.version, self.index_sha256)[part.index]
        files = part_files(self.url, self.version, rows.name, rows.digest.bytes)
        batches = (_values(self.schema, batch) for batch in stored_samples(files, 0, self.schema, self.schema.names))
        stem = f"shard-{part.number:05d}-of-{part.count:05d}"
        made = FORMATS[self.format].files(self.schema, batches, part.number, stem)
        return PartWritten(split=part.split, number=part.number, files=tuple(self._write_file(part, file) for file in made))

    def _write_file(self, part: Part, file: File) -> Written:
        name = f"{part.split}/{file.name}{SUFFIXES[self.compression]}"
        temporary = f"{TEMPORARY}/{uuid.uuid4().hex}"
        with (
            self.target.new_file(temporary) as path,
            open(path, "xb") as raw,
            _compressed(raw, self.compression) as stream,
        ):
            for piece in file.pieces:
                stream.write(piece)
        try:
            self.target.rename(temporary, name)
        except FileExistsError:  # a killed run, or the same task run twice at once, was quicker; its bytes are the same
            self.target.delete(temporary)
        digest = FileDigest(name=name, bytes=self.target.size(name), sha256=sha256_of(self.target, name))
        return Written(digest=digest, samples=file.samples, raw=file.raw)


def _compressed(raw: BinaryIO, compression: CompressionKind) -> AbstractContextManager[BinaryIO]:
    if compression == "none":
        return nullcontext(raw)
    packed = gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0)  # no name, no time: the same bytes for the same samples
    return cast(AbstractContextManager[BinaryIO], packed)


def _values(schema: Schema, stored: pa.RecordBatch) -> dict[str, npt.NDArray[Any]]:
    """What `encode_examples` takes: decoded values, but pictures as they are stored."""
    out: dict[str, npt.NDArray[Any]] = {}
    for field in schema:
        if field.is_image:
            out[field.name] = np.empty(stored.num_rows, object)
            out[field.name][:] = stored[field.name].to_pylist()
        else:
            out |= to_arrays(field, stored[field.name])
    return out
