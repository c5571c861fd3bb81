"""Export: the samples of a published version as TFRecord files, a task and a file for each part.

Everything is written in `<output>.partial-<attempt>`, whose name depends on what is exported: a killed export goes on with the
files that were finished. One directory rename makes the output exist.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.errors import DatasetNotFoundError, StorageError
from shardwright.format.canonical import canonical_json, canonical_sha256
from shardwright.format.layout import SUMS, column
from shardwright.format.manifest import FileDigest, Manifest
from shardwright.format.tfrecord import FEATURES, Features, encode_examples, frame
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.columns import check_names
from shardwright.reader.compressed import decode_stored
from shardwright.reader.stored import part_files, stored_samples
from shardwright.reader.verify_part import PartRows, parts_of
from shardwright.schema import CodecSpec, Field, Schema, suggest
from shardwright.spark.progress import Passes
from shardwright.spark.published import published_parts
from shardwright.spark.reading import REPORT
from shardwright.spark.session import executor_errors, open_session
from shardwright.storage import LocalStorage, Lock, open_writable, open_storage
from shardwright.storage.local import clear_errors

CompressionKind = Literal["gzip", "none"]
ABOUT = "_export.json"
"""The file of an export that holds its `Export`."""
_TEMPORARY = "_temporary"
_GZIP_LEVEL = 6


class Export(BaseModel):
    """What is exported: the same for the same files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    format: Literal["tfrecord"] = "tfrecord"
    content_id: str
    splits: dict[str, int]
    """Samples of each split, without pads."""
    columns: tuple[str, ...]
    compression: CompressionKind

    @property
    def attempt(self) -> str:
        """The name of this work."""
        return canonical_sha256(self.model_dump(mode="json"))[:16]

    def file_name(self, split: str, number: int, count: int) -> str:
        """The name of file `number` of the `count` files of a split."""
        return f"{split}/shard-{number:05d}-of-{count:05d}.tfrecord{'.gz' if self.compression == 'gzip' else ''}"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export that stands, and whether this run made it."""

    path: Path
    about: Export
    files: tuple[str, ...]
    new: bool


def export(
    url: str,
    output: str,
    *,
    version: str = "latest",
    splits: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    compression: CompressionKind = "gzip",
    quiet: bool = False,
) -> Exported:
    """Write `splits` (by default all) of a version as TFRecord files of `tf.train.Example` to the new directory `output`.

    `columns` are the fields that are written, by default all. Repeated samples (pads) are left out.

    Raises StorageError when `output` exists already and is not this very export, DatasetNotFoundError for an unknown dataset,
    version or split, SchemaError for unknown columns, CorruptError for damaged parts.
    """
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    names = check_names(manifest.content.dataset_schema, columns, padded=False)
    about = Export(
        content_id=manifest.content_id, splits=_split_samples(manifest, splits, f"{storage.url}/{name}"), columns=names,
        compression=compression,
    )  # fmt: skip
    parts = parts_of(read_index(storage, name, manifest))
    schema = Schema(fields=tuple(manifest.content.dataset_schema[column] for column in names))
    target = open_writable(output)
    with Lock(LocalStorage(target.path.parent), f"{target.path.name}.lock") as lock:
        files = _files(about, parts)
        if target.exists():
            return _adopt(target, about, files)
        work = _Work(LocalStorage(target.path.with_name(f"{target.path.name}.partial-{about.attempt}")), about, schema)
        work.begin(target)
        write = _WriteFiles(
            url=storage.url, version=name, index_sha256=manifest.content.index.sha256, schema=schema, compression=compression,
            files=files, directory=work.storage.path,
        )  # fmt: skip
        work.finish(_run(write, quiet=quiet))
        lock.check()
        LocalStorage(target.path.parent).rename(work.storage.path.name, target.path.name)
    return Exported(path=target.path, about=about, files=tuple(files), new=True)


class _Work:
    """The directory in which an export is made."""

    def __init__(self, storage: LocalStorage, about: Export, schema: Schema) -> None:
        self.storage, self._about, self._schema = storage, about, schema

    def begin(self, target: LocalStorage) -> None:
        """Create it; remove those of other exports to the same place that were killed."""
        beside = LocalStorage(target.path.parent)
        for other in beside.names():
            if other.startswith(f"{target.path.name}.partial-") and other != self.storage.path.name:
                beside.delete(other)
        self.storage.delete(_TEMPORARY)
        for directory in (_TEMPORARY, *self._about.splits):
            self.storage.make_directory(directory)

    def finish(self, digests: Sequence[FileDigest]) -> None:
        """Add what describes the files."""
        features = Features(fields=tuple(_decoded(field) for field in self._schema))
        described = {ABOUT: canonical_json(self._about.model_dump(mode="json")) + b"\n"}
        for split in self._about.splits:  # beside the files: a split can be moved alone
            described[f"{split}/{FEATURES}"] = canonical_json(features.model_dump(mode="json")) + b"\n"
        sums = {digest.name: digest.sha256 for digest in digests}
        sums |= {name: hashlib.sha256(data).hexdigest() for name, data in described.items()}
        described[SUMS] = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items())).encode()
        for name, data in described.items():
            self.storage.write(name, data)
        self.storage.delete(_TEMPORARY)  # a worker of a killed run can't finish a file after this


def _run(write: _WriteFiles, *, quiet: bool) -> list[FileDigest]:
    session = open_session("export")
    passes = Passes(session.sparkContext, quiet=quiet)
    numbers = session.range(0, len(write.files), 1, len(write.files))
    with passes.show("export"), executor_errors():
        rows = numbers.mapInArrow(write, from_arrow_schema(REPORT)).collect()
    digests = [FileDigest.model_validate_json(row.report) for row in rows]
    passes.say(f"export   {len(digests):,} files, {sum(digest.bytes for digest in digests):,} bytes")
    return digests


def _adopt(target: LocalStorage, about: Export, files: dict[str, int]) -> Exported:
    try:
        found = Export.model_validate_json(target.read(ABOUT))
    except (OSError, ValueError):
        found = None
    if found != about:
        raise StorageError(
            f"expected a directory that does not exist yet, found {target.url}: remove it, or name another --output"
        )
    return Exported(path=target.path, about=about, files=tuple(files), new=False)


def _split_samples(manifest: Manifest, splits: Sequence[str], where: str) -> dict[str, int]:
    known = manifest.content.splits
    for split in splits:
        if split not in known:
            raise DatasetNotFoundError(f"{where} has no split {split!r}: {suggest(split, sorted(known))}")
    return {name: known[name].samples - known[name].padded for name in sorted(splits or known)}


def _files(about: Export, parts: Sequence[PartRows]) -> dict[str, int]:
    """The name of every file -> the number of the part that goes into it."""
    out: dict[str, int] = {}
    for split in about.splits:
        own = [number for number, part in enumerate(parts) if part.split == split]
        out |= {about.file_name(split, place, len(own)): number for place, number in enumerate(own)}
    return out


def _decoded(field: Field) -> Field:
    """The field that the exported values are: encoded pictures stay encoded, all else is as plain as it can be."""
    if field.codec is None or field.is_image:
        return field
    return field.model_copy(update={"codec": CodecSpec(name="raw" if field.codec.name == "raw" else "npy")})


@dataclass(frozen=True, kw_only=True)
class _WriteFiles:
    """Writes the files whose numbers Spark hands out."""

    url: str
    version: str
    index_sha256: str
    schema: Schema
    compression: CompressionKind
    files: dict[str, int]
    directory: Path

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        named = list(self.files.items())
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                name, part = named[number]
                path = self.directory / name
                if not path.exists():  # a file has its name only when it is whole; a killed run may have left some
                    self._write(published_parts(self.url, self.version, self.index_sha256)[part], path)
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                done = FileDigest(name=name, bytes=path.stat().st_size, sha256=digest)
                yield pa.RecordBatch.from_pylist([{"report": done.model_dump_json()}], REPORT)

    def _write(self, part: PartRows, path: Path) -> None:
        temporary = self.directory / _TEMPORARY / uuid.uuid4().hex
        files = part_files(self.url, self.version, part.name, part.digest.bytes)
        with clear_errors(path):
            with open(temporary, "xb") as raw, _compressed(raw, self.compression) as file:
                for batch in stored_samples(files, 0, self.schema, self.schema.names):
                    for example in encode_examples(self.schema, _values(self.schema, batch)):
                        file.write(frame(example))
            temporary.rename(path)


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
            out |= decode_stored(column(field), field, stored[field.name])
    return out


def describe(exported: Exported) -> str:
    """Where the files are, what is in them, and how to read them."""
    about = exported.about
    note = "" if exported.new else ": nothing to do, this export is there already"
    lines = [f"{exported.path}{note}"]
    for split, samples in about.splits.items():
        count = sum(name.startswith(f"{split}/") for name in exported.files)
        lines.append(f"  {split}: {samples:,} samples in {count} files")
    split = "train" if "train" in about.splits else min(about.splits)
    kind = json.dumps("GZIP" if about.compression == "gzip" else "")
    return "\n".join(
        [
            *lines, "", "read it:", "", "  import tensorflow as tf",
            f'  files = tf.data.Dataset.list_files("{exported.path}/{split}/*.tfrecord*", shuffle=False)',
            f"  records = tf.data.TFRecordDataset(files, compression_type={kind})",
            f"  ({FEATURES} says what the features are, docs/jobs.md how they are parsed)",
        ]
    )  # fmt: skip
