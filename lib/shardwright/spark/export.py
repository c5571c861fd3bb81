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
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.errors import DatasetNotFoundError, StorageError
from shardwright.format.batch import to_arrays
from shardwright.format.canonical import canonical_json, canonical_sha256
from shardwright.format.features import FEATURES, Features
from shardwright.format.layout import SUMS
from shardwright.format.manifest import FileDigest, Manifest
from shardwright.format.tfrecord import encode_examples, frame
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.columns import check_names
from shardwright.reader.stored import part_files, stored_samples
from shardwright.reader.verify_part import PartRows, parts_of, sha256_of
from shardwright.schema import CodecSpec, Field, Schema, suggest
from shardwright.spark.hosts import check_reachable
from shardwright.spark.progress import Passes
from shardwright.spark.published import published_parts
from shardwright.spark.reading import REPORT
from shardwright.spark.session import executor_errors, open_session
from shardwright.storage import Lock, WritableStorage, open_storage, open_writable

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

    url: str
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
    wait_seconds: float = 0,
    quiet: bool = False,
) -> Exported:
    """Write `splits` (by default all) of a version as TFRecord files of `tf.train.Example` to the new directory `output`.

    `columns` are the fields that are written, by default all. Repeated samples (pads) are left out. `output` is a local path or
    an hdfs:// URL. An export there that runs is waited for, `wait_seconds` at most.

    Raises LockedError where it runs on, StorageError when `output` exists already and is not this very export,
    DatasetNotFoundError for an unknown dataset, version or split, SchemaError for unknown columns, CorruptError for damaged
    parts, ConfigError for a plain local path where executors run on other machines.
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
    beside, target = _directory_and_name(output)
    with Lock(beside, f"{target}.lock", wait_seconds=wait_seconds) as lock:
        files = _files(about, parts)
        if beside.exists(target):
            return _adopt(beside.child(target), about, files)
        session = open_session("export")
        check_reachable(session.sparkContext.master, {url: "URL", output: "--output"})
        partial = f"{target}.partial-{about.attempt}"
        _remove_others(beside, target, partial)
        work = _Work(beside.child(partial), about, schema)
        work.begin()
        write = _WriteFiles(
            url=storage.url, version=name, index_sha256=manifest.content.index.sha256, schema=schema, compression=compression,
            files=files, target=work.storage,
        )  # fmt: skip
        work.finish(_run(session, write, quiet=quiet))
        lock.check()
        beside.rename(partial, target)
    return Exported(url=f"{beside.url}/{target}", about=about, files=tuple(files), new=True)


def _directory_and_name(output: str) -> tuple[WritableStorage, str]:
    """Where the output goes: the directory that it will lie in, and its name there."""
    directory, _, name = open_writable(output).url.rpartition("/")
    if not name or directory == "hdfs:/":
        raise StorageError(f"expected a directory that does not exist yet, found {output!r}: name one below it")
    return open_writable(directory or "/"), name


def _remove_others(beside: WritableStorage, target: str, partial: str) -> None:
    """Remove what killed exports of something else to the same place left."""
    for other in beside.names():
        if other.startswith(f"{target}.partial-") and other != partial:
            beside.delete(other)


class _Work:
    """The directory in which an export is made."""

    def __init__(self, storage: WritableStorage, about: Export, schema: Schema) -> None:
        self.storage, self._about, self._schema = storage, about, schema

    def begin(self) -> None:
        """Create it; files that a killed run finished stay."""
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


def _run(session: SparkSession, write: _WriteFiles, *, quiet: bool) -> list[FileDigest]:
    passes = Passes(session.sparkContext, quiet=quiet)
    numbers = session.range(0, len(write.files), 1, len(write.files))
    with passes.show("export"), executor_errors():
        rows = numbers.mapInArrow(write, from_arrow_schema(REPORT)).collect()
    digests = [FileDigest.model_validate_json(row.report) for row in rows]
    passes.say(f"export   {len(digests):,} files, {sum(digest.bytes for digest in digests):,} bytes")
    return digests


def _adopt(target: WritableStorage, about: Export, files: dict[str, int]) -> Exported:
    try:
        found = Export.model_validate_json(target.read(ABOUT))
    except (OSError, ValueError):
        found = None
    if found != about:
        raise StorageError(
            f"expected a directory that does not exist yet, found {target.url}: remove it, or name another --output"
        )
    return Exported(url=target.url, about=about, files=tuple(files), new=False)


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
    target: WritableStorage

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        named = list(self.files.items())
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                name, part = named[number]
                if not self.target.exists(name):  # a file has its name only when it is whole; a killed run may have left some
                    self._write(published_parts(self.url, self.version, self.index_sha256)[part], name)
                done = FileDigest(name=name, bytes=self.target.size(name), sha256=sha256_of(self.target, name))
                yield pa.RecordBatch.from_pylist([{"report": done.model_dump_json()}], REPORT)

    def _write(self, part: PartRows, name: str) -> None:
        temporary = f"{_TEMPORARY}/{uuid.uuid4().hex}"
        files = part_files(self.url, self.version, part.name, part.digest.bytes)
        with (
            self.target.new_file(temporary) as path,
            open(path, "xb") as raw,
            _compressed(raw, self.compression) as file,
        ):
            for batch in stored_samples(files, 0, self.schema, self.schema.names):
                for example in encode_examples(self.schema, _values(self.schema, batch)):
                    file.write(frame(example))
        try:
            self.target.rename(temporary, name)
        except FileExistsError:  # the same task, run twice at once, was quicker; its bytes are the same
            self.target.delete(temporary)


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


def result_json(exported: Exported) -> str:
    """What was exported, for a scheduler, in one line."""
    found = {
        "status": "exported" if exported.new else "unchanged", "exit_code": 0, "url": exported.url,
        "content_id": exported.about.content_id, "splits": exported.about.splits, "files": len(exported.files),
    }  # fmt: skip
    return json.dumps(found, ensure_ascii=False)


def describe(exported: Exported) -> str:
    """Where the files are, what is in them, and how to read them."""
    about = exported.about
    note = "" if exported.new else ": nothing to do, this export is there already"
    lines = [f"{exported.url}{note}"]
    for split, samples in about.splits.items():
        count = sum(name.startswith(f"{split}/") for name in exported.files)
        lines.append(f"  {split}: {samples:,} samples in {count} files")
    split = "train" if "train" in about.splits else min(about.splits)
    kind = json.dumps("GZIP" if about.compression == "gzip" else "")
    return "\n".join(
        [
            *lines, "", "read it:", "", "  import tensorflow as tf",
            f'  files = tf.data.Dataset.list_files("{exported.url}/{split}/*.tfrecord*", shuffle=False)',
            f"  records = tf.data.TFRecordDataset(files, compression_type={kind})",
            f"  ({FEATURES} says what the features are, docs/jobs.md how they are parsed)",
        ]
    )  # fmt: skip
