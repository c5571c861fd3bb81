"""Export: the samples of a published version as files of another format, a task for each part.

Everything is written in `<output>.partial-<attempt>`, whose name depends on what is exported: a killed export goes on with the
parts that were finished. One directory rename makes the output exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.errors import DatasetNotFoundError, StorageError
from shardwright.format.canonical import canonical_json, canonical_sha256
from shardwright.format.features import FEATURES, Features
from shardwright.format.layout import SUMS
from shardwright.format.manifest import Manifest
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.columns import check_names
from shardwright.reader.verify_part import PartRows, parts_of
from shardwright.schema import CodecSpec, Field, Schema, suggest
from shardwright.spark.export_formats import FORMATS, CompressionKind, FormatName
from shardwright.spark.export_parts import DONE, SUFFIXES, TEMPORARY, Part, PartWritten, WriteParts
from shardwright.spark.hosts import check_reachable
from shardwright.spark.progress import Passes
from shardwright.spark.reading import REPORT
from shardwright.spark.session import executor_errors, open_session
from shardwright.storage import Lock, WritableStorage, open_storage, open_writable

ABOUT = "_export.json"
"""The file of an export that holds its `Export`."""


class Export(BaseModel):
    """What is exported: the same for the same files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    format: FormatName
    content_id: str
    splits: dict[str, int]
    """Samples of each split, without pads."""
    columns: tuple[str, ...]
    compression: CompressionKind

    @property
    def attempt(self) -> str:
        """The name of this work."""
        return canonical_sha256(self.model_dump(mode="json"))[:16]

    @property
    def suffix(self) -> str:
        """Of the files with samples."""
        return FORMATS[self.format].suffix + SUFFIXES[self.compression]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export that stands, and whether this run made it."""

    url: str
    about: Export
    files: tuple[str, ...]
    """Those with samples."""
    new: bool


def export(
    url: str,
    output: str,
    *,
    to: FormatName = "tfrecord",
    version: str = "latest",
    splits: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    compression: CompressionKind | None = None,
    wait_seconds: float = 0,
    quiet: bool = False,
) -> Exported:
    """Write `splits` (by default all) of a version as files of the format `to` to the new directory `output`.

    `columns` are the fields that are written, by default all; `compression` is the format's own where none is named. Repeated
    samples (pads) are left out. `output` is a local path or an hdfs:// URL. An export there that runs is waited for,
    `wait_seconds` at most.

    Raises LockedError where it runs on, StorageError when `output` exists already and is not this very export,
    DatasetNotFoundError for an unknown dataset, version or split, SchemaError for unknown columns and for fields that have no
    form in the format, CorruptError for damaged parts, ConfigError for a plain local path where executors run elsewhere.
    """
    storage = open_storage(url)
    name, manifest = read_manifest(storage, version)
    names = check_names(manifest.content.dataset_schema, columns, padded=False)
    about = Export(
        format=to, content_id=manifest.content_id, splits=_split_samples(manifest, splits, f"{storage.url}/{name}"),
        columns=names, compression=compression or FORMATS[to].compression,
    )  # fmt: skip
    schema = Schema(fields=tuple(manifest.content.dataset_schema[column] for column in names))
    FORMATS[to].check(schema)
    beside, target = _directory_and_name(output)
    with Lock(beside, f"{target}.lock", wait_seconds=wait_seconds) as lock:
        if beside.exists(target):
            return _adopt(beside.child(target), about)
        session = open_session("export")
        check_reachable(session.sparkContext.master, {url: "URL", output: "--output"})
        partial = f"{target}.partial-{about.attempt}"
        _remove_others(beside, target, partial)
        work = _Work(beside.child(partial), about, schema)
        work.begin()
        write = WriteParts(
            url=storage.url, version=name, index_sha256=manifest.content.index.sha256, schema=schema, format=to,
            compression=about.compression,
            parts=_parts(about, parts_of(read_index(storage, name, manifest))), target=work.storage,
        )  # fmt: skip
        work.finish(_run(session, write, quiet=quiet))
        lock.check()
        beside.rename(partial, target)
    return Exported(url=f"{beside.url}/{target}", about=about, files=_data_files(beside.child(target), about), new=True)


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
        """Create it; what a killed run finished stays."""
        self.storage.delete(TEMPORARY)
        for directory in (TEMPORARY, DONE, *self._about.splits):
            self.storage.make_directory(directory)

    def finish(self, parts: Sequence[PartWritten]) -> None:
        """Add what describes the files."""
        features = Features(fields=tuple(_decoded(field) for field in self._schema))
        described = {ABOUT: canonical_json(self._about.model_dump(mode="json")) + b"\n"}
        for split in self._about.splits:  # beside the files: a split can be moved alone
            written = [file for part in parts if part.split == split for file in part.files]
            more = FORMATS[self._about.format].beside(self._schema, written, self._about.compression)
            more[FEATURES] = canonical_json(features.model_dump(mode="json")) + b"\n"
            described |= {f"{split}/{name}": data for name, data in more.items()}
        sums = {file.digest.name: file.digest.sha256 for part in parts for file in part.files}
        sums |= {name: hashlib.sha256(data).hexdigest() for name, data in described.items()}
        described[SUMS] = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items())).encode()
        for name, data in described.items():
            self.storage.write(name, data)
        for directory in (TEMPORARY, DONE):  # a worker of a killed run can't finish a file after this
            self.storage.delete(directory)


def _run(session: SparkSession, write: WriteParts, *, quiet: bool) -> list[PartWritten]:
    passes = Passes(session.sparkContext, quiet=quiet)
    numbers = session.range(0, len(write.parts), 1, len(write.parts))
    with passes.show("export"), executor_errors():
        rows = numbers.mapInArrow(write, from_arrow_schema(REPORT)).collect()
    found = sorted((PartWritten.model_validate_json(row.report) for row in rows), key=lambda part: (part.split, part.number))
    digests = [file.digest for part in found for file in part.files]
    passes.say(f"export   {len(digests):,} files, {sum(digest.bytes for digest in digests):,} bytes")
    return found


def _adopt(target: WritableStorage, about: Export) -> Exported:
    try:
        found = Export.model_validate_json(target.read(ABOUT))
    except (OSError, ValueError):
        found = None
    if found != about:
        raise StorageError(
            f"expected a directory that does not exist yet, found {target.url}: remove it, or name another --output"
        )
    return Exported(url=target.url, about=about, files=_data_files(target, about), new=False)


def _data_files(target: WritableStorage, about: Export) -> tuple[str, ...]:
    return tuple(name for name in target.files() if name.endswith(about.suffix))


def _split_samples(manifest: Manifest, splits: Sequence[str], where: str) -> dict[str, int]:
    known = manifest.content.splits
    for split in splits:
        if split not in known:
            raise DatasetNotFoundError(f"{where} has no split {split!r}: {suggest(split, sorted(known))}")
    return {name: known[name].samples - known[name].padded for name in sorted(splits or known)}


def _parts(about: Export, parts: Sequence[PartRows]) -> list[Part]:
    out = []
    for split in about.splits:
        own = [number for number, part in enumerate(parts) if part.split == split]
        out += [Part(split, place, len(own), number) for place, number in enumerate(own)]
    return out


def _decoded(field: Field) -> Field:
    """The field that the exported values are: encoded pictures stay encoded, all else is as plain as it can be."""
    if field.codec is None or field.is_image:
        return field
    return field.model_copy(update={"codec": CodecSpec(name="raw" if field.codec.name == "raw" else "npy")})


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
    code = FORMATS[about.format].how_to_read(f"{exported.url}/{split}", about.compression)
    return "\n".join([*lines, "", "read it:", "", *(f"  {line}" for line in code)])
