"""The manifest: the JSON contract of a version, written last.

Three blocks: *content* (what the samples are; its hash is the `content_id` that checkpoints bind to), *lineage* (where they
came from, and what became of every one), *provenance* (who made it, when, with what). Both hashes are checked on open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardwright.errors import CorruptError, FormatVersionError
from shardwright.format import FORMAT_VERSION
from shardwright.format.canonical import canonical_json, canonical_sha256
from shardwright.format.statistics import FieldStatistics, Label
from shardwright.schema import Field as SchemaField
from shardwright.schema import Schema

RemainderPolicy = Literal["drop", "pad", "spread", "carry"]
Order = Literal["shuffled", "keep"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FileDigest(_Model):
    """Size and checksum of one file; `name` is relative to the version."""

    name: str
    bytes: int
    sha256: str


class Shard(_Model):
    """Totals of one shard."""

    samples: int
    parts: int
    bytes: int


class Split(_Model):
    """Totals of one split; `padded` of its samples are repetitions."""

    samples: int
    padded: int
    shards: tuple[Shard, ...]
    common_metadata: FileDigest


class Plan(_Model):
    """How samples were placed, and what the order of reading depends on."""

    shards: dict[str, int]
    remainder: RemainderPolicy
    seed: int
    order: Order = "shuffled"
    order_by: tuple[str, ...] = ()
    """The fields whose order is kept, where `order` is "keep"."""
    block_samples: int
    window_blocks: int
    part_bytes: int | None = None
    row_group_bytes: int | None = None
    block_bytes: int | None = None
    """What sizes were asked for; None in versions written before they were recorded."""


class _Transform(_Model):
    field: str
    at: Literal["read", "write"] = "read"
    """Whether the reader applies it on request, or the stored values are its results."""
    original: SchemaField | None = None
    """What the field was before a transform at write: what `Dataset.inverse` gives back."""


Channels = tuple[float, ...]
"""One number for each channel of a field's statistics."""


class Standardisation(_Transform):
    """x' = (x - mean) / std, per channel."""

    name: Literal["standardise"] = "standardise"
    mean: Channels
    std: Channels

    def affine(self) -> tuple[Channels, Channels]:
        """(offset, scale) of x' = (x - offset) / scale per channel; a scale of 0 counts as 1."""
        return self.mean, _scales(self.std)


class MinMax(_Transform):
    """x' = (x - min) / (max - min), per channel."""

    name: Literal["min_max"] = "min_max"
    min: Channels
    max: Channels

    def affine(self) -> tuple[Channels, Channels]:
        """(offset, scale) of x' = (x - offset) / scale per channel; a scale of 0 counts as 1."""
        return self.min, _scales(high - low for low, high in zip(self.min, self.max, strict=True))


class Robust(_Transform):
    """x' = (x - median) / iqr, per channel; `iqr` is the distance between the quartiles."""

    name: Literal["robust"] = "robust"
    median: Channels
    iqr: Channels

    def affine(self) -> tuple[Channels, Channels]:
        """(offset, scale) of x' = (x - offset) / scale per channel; a scale of 0 counts as 1."""
        return self.median, _scales(self.iqr)


Affine = Standardisation | MinMax | Robust
"""The transforms of the form x' = (x - offset) / scale."""


def _scales(scales: Iterable[float]) -> Channels:
    return tuple(scale or 1.0 for scale in scales)


class Vocabulary(_Transform):
    """A value becomes its number in `values`; where `unknown`, 0 stands for any other value and `values` begin at 1."""

    name: Literal["vocabulary"] = "vocabulary"
    values: tuple[Label, ...]
    unknown: bool


class OneHot(_Transform):
    """A value becomes a vector with a 1 at its place in `values`; where `unknown`, any other value becomes all zeros."""

    name: Literal["one_hot"] = "one_hot"
    values: tuple[Label, ...]
    unknown: bool


Transform = Annotated[Standardisation | MinMax | Robust | Vocabulary | OneHot, Field(discriminator="name")]


class Compression(_Model):
    """What compressing one field made of it, measured over all published samples."""

    codec: str
    configuration: dict[str, int | float | str | bool] = {}
    level: Literal["column", "value"]
    """Whether Parquet compressed pages of the column, or each value was encoded by itself."""
    raw_bytes: int
    stored_bytes: int
    max_error: float | None = None
    """The largest |stored - original| of any element; None where the codec is lossless."""
    rmse: float | None = None
    psnr: float | None = None
    """Of integers: 20 log10(largest possible value / rmse), in dB; None where nothing differs."""


class Statistics(_Model):
    """Exact statistics over the published samples of one split, without pads."""

    split: str
    fields: dict[str, FieldStatistics]


class Content(_Model):
    """What the samples are."""

    dataset_schema: Schema = Field(alias="schema")
    splits: dict[str, Split]
    index: FileDigest
    statistics: Statistics
    transforms: tuple[Transform, ...]
    compression: dict[str, Compression] = {}
    plan: Plan


class Input(_Model):
    """One input: a file with its size and modification time (nanoseconds since 1970), or anything else by a description."""

    path: str
    bytes: int | None = None
    modified_ns: int | None = None
    content_id: str | None = None
    """Of a published version."""


class Counts(_Model):
    """What became of the samples: read + padded = published + quarantined + dropped + carried + filtered."""

    read: int
    padded: int
    published: int
    quarantined: int
    dropped: int
    carried: int = 0
    filtered: int = 0


class Lineage(_Model):
    """Where the samples came from."""

    inputs: tuple[Input, ...]
    parent: str | None
    counts: Counts
    configuration_sha256: str | None
    inputs_sha256: str | None
    pipeline_version: int
    carried: tuple[FileDigest, ...] = ()
    """Samples that wait for a later version: files in the version's directory."""
    checksums: dict[str, str] = {}
    """Of each field of a migrated dataset, as it was read: what `format.checksums` makes of all published samples."""


class Provenance(_Model):
    """Who made it, when, with what."""

    created: str
    user: str
    host: str
    software: dict[str, str]
    configuration: dict[str, Any]
    seconds: dict[str, float]
    job: dict[str, str] = {}
    """Where it ran: Spark's `master`, `deploy_mode` and `application`, the id by which its logs are found."""


class Manifest(_Model):
    """The whole manifest. Make one with `Manifest.seal`; read one with `Manifest.parse`."""

    format_version: int
    content: Content
    content_id: str
    lineage: Lineage
    provenance: Provenance
    manifest_sha256: str

    @classmethod
    def seal(cls, content: Content, lineage: Lineage, provenance: Provenance) -> Manifest:
        """The manifest of these blocks, with both hashes computed."""
        body: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "content": content.model_dump(mode="json", by_alias=True),
            "lineage": lineage.model_dump(mode="json", by_alias=True),
            "provenance": provenance.model_dump(mode="json", by_alias=True),
        }
        body["content_id"] = canonical_sha256(body["content"])
        body["manifest_sha256"] = canonical_sha256(body)
        return cls.parse(canonical_json(body), where="the new manifest")

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Manifest:
        """The manifest in `data`.

        Raises FormatVersionError for one from a newer shardwright, and CorruptError when it is no manifest, or when a hash
        does not match; `where` names the file in the message.
        """
        try:
            body = json.loads(data)
        except ValueError as error:
            raise CorruptError(f"{where}: expected JSON, {error}") from error
        if not isinstance(body, dict) or not isinstance(body.get("format_version"), int):
            raise CorruptError(f"{where}: expected a manifest with a format_version")
        if body["format_version"] > FORMAT_VERSION:
            raise FormatVersionError(
                f"{where}: format_version {body['format_version']} is newer than {FORMAT_VERSION}, the newest this shardwright "
                "reads; upgrade shardwright"
            )
        _check_hash(body.get("content"), body.get("content_id"), "content_id", "content", where)
        whole = {key: value for key, value in body.items() if key != "manifest_sha256"}
        _check_hash(whole, body.get("manifest_sha256"), "manifest_sha256", "lineage or provenance", where)
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise CorruptError(f"{where}: not a manifest: {error}") from error

    def to_json(self) -> bytes:
        """The bytes of `_manifest.json`."""
        return canonical_json(self.model_dump(mode="json", by_alias=True)) + b"\n"


def _check_hash(value: object, expected: object, key: str, block: str, where: str) -> None:
    found = canonical_sha256(value)
    if found != expected:
        raise CorruptError(
            f"{where}: {block} was changed after publishing: {key} says {expected}, its contents give {found}; "
            "restore the file, or read an earlier version"
        )
