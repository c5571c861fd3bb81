"""Reshard: samples of published versions, as they are stored, cut into another number of shards, without preparing again.

The passes are those of a prepare job. Samples of one dataset keep their order: what orders them is their index in the split.
Samples of several, or with another seed, are placed by their keyed hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardwright.codecs import value_codec
from shardwright.config import Recipe
from shardwright.errors import ConfigError, DatasetNotFoundError, SchemaError
from shardwright.format.canonical import canonical_sha256
from shardwright.format.layout import column
from shardwright.format.manifest import Affine, Compression, Input, RemainderPolicy, Transform
from shardwright.reader.predicate import parse_predicate, scalar_fields
from shardwright.schema import Schema, suggest
from shardwright.spark.pipeline import run
from shardwright.spark.published import PublishedSource, Version, pieces
from shardwright.spark.work import Work
from shardwright.stages import Map, Rejects
from shardwright.stages.compress import CompressOptions, FieldCompression
from shardwright.stages.publish import Published
from shardwright.stages.read import AddContent
from shardwright.stages.shard import OrderBy, ShardOptions, ShardPlan, SplitSize, plan_shards
from shardwright.stages.standardise import Scaling, StandardiseOptions
from shardwright.storage import HdfsOptions, open_storage

_METHODS = {"standardise": "mean_std", "min_max": "min_max", "robust": "robust"}


class ReshardOptions(BaseModel):
    """What is to be changed; what is None is as in the source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: int = Field(ge=1, le=99_999)
    remainder: RemainderPolicy | None = None
    where: str | None = None
    """A predicate: only the samples of which it is true."""
    splits: tuple[str, ...] = ()
    """Only these splits; none named: all."""
    order_by: tuple[str, ...] = ()
    seed: int | None = None
    """Shuffle anew with this seed."""
    part_bytes: int | None = Field(default=None, ge=1)
    row_group_bytes: int | None = Field(default=None, ge=1, le=2**30)
    block_bytes: int | None = Field(default=None, ge=1)
    window_blocks: int | None = Field(default=None, ge=1)


class Reshard(Work):
    """Published versions, and what is to become of them; `paths` are their datasets, as they were named.

    Raises ConfigError, DatasetNotFoundError for an unknown split, SchemaError for versions that do not go together,
    BalanceError where a split has fewer samples than shards.
    """

    places = ("SOURCES", "--output")

    def __init__(self, versions: Sequence[Version], options: ReshardOptions, paths: Sequence[str]) -> None:
        self._versions, self._options = tuple(versions), options
        first = versions[0].manifest.content
        _check_together(versions)
        if options.where is not None:
            parse_predicate(options.where, first.dataset_schema)  # raises PredicateError
        splits = _splits(versions, options)
        self._encoded = any(t.at == "write" for t in first.transforms) or any(
            value_codec(field) is not None for field in first.dataset_schema
        )
        self.keep_places = len(versions) == 1 and not options.order_by and options.seed in (None, first.plan.seed)
        shard = _shard_options(versions, options, keep_places=self.keep_places)
        if shard.remainder == "carry" and self._encoded:
            problem = "remainder = carry: what waits is encoded when it is published, and these samples are encoded already"
            raise ConfigError([f"{problem}; use drop, pad or spread"])
        parts = tuple(piece for version in versions for piece in pieces(version, splits, waiting=not self._encoded))
        source = PublishedSource(first.dataset_schema, self.keep_places, parts)
        recipe = Recipe(
            duplicate_keys="keep", standardise=_standardise(versions[0], splits), compress=_compress(versions[0]),
            shard=shard,
        )  # fmt: skip
        asked = {"reshard": options.model_dump(mode="json", exclude_defaults=True)}
        super().__init__(source, recipe, "reshard", asked=asked, splits=splits, paths=paths)
        self.inputs = tuple(Input(path=str(version), content_id=version.manifest.content_id) for version in self._versions)
        waiting = [file.sha256 for version in versions for file in version.manifest.lineage.carried]
        self.urls = tuple(version.url for version in versions)
        self.inputs_sha256 = canonical_sha256([[version.manifest.content_id for version in versions], waiting])
        self.fitted = tuple(transform for transform in first.transforms if transform.at == "write")

    def maps(self) -> tuple[Map, ...]:
        """Samples come with key and split, and were cleaned; what numbers those of equal key is only needed for new places."""
        where, by = self._options.where, self.recipe.shard.order_by
        out: list[Map] = [Where(where, self.schema)] if where is not None else []
        if not self.keep_places:
            out += [AddContent(self.schema), *([OrderBy(self.schema, by)] if by else [])]
        return tuple(out)

    def records(
        self, measured: Mapping[str, Compression], column_bytes: Mapping[str, int], plan: ShardPlan
    ) -> dict[str, Compression]:
        """What is known of each compression: of encoded values the largest error of any source is still a bound."""
        out = dict(measured)
        for name, record in self._versions[0].manifest.content.compression.items():
            if record.level == "value":
                found = self._carried_record(name, record, plan)
                if found is not None:
                    out[name] = found.model_copy(update={"stored_bytes": column_bytes[name]})
        return dict(sorted(out.items()))

    def _carried_record(self, name: str, record: Compression, plan: ShardPlan) -> Compression | None:
        """The record over what is published now, or None where the bytes of the values are not known without decoding all."""
        if self._same_samples(plan):
            return record
        field = self.schema[name]
        if not field.shape or None in field.shape or field.nullable:
            return None
        errors = [version.manifest.content.compression[name].max_error for version in self._versions]
        return record.model_copy(
            update={
                "raw_bytes": sum(plan.published.values()) * field.nbytes,
                "max_error": max((error for error in errors if error is not None), default=None),
                "rmse": None, "psnr": None,
            }
        )  # fmt: skip

    def _same_samples(self, plan: ShardPlan) -> bool:
        """Whether each sample that was published is published now, once, and no other."""
        if len(self._versions) > 1:
            return False
        found = {name: split.samples for name, split in self._versions[0].manifest.content.splits.items()}
        pads = any(split.padded for split in self._versions[0].manifest.content.splits.values()) or any(plan.padded.values())
        return not pads and found == plan.published

    def sizes(self) -> dict[str, SplitSize]:
        """What each split holds before any filter, by the manifests; samples that wait are not counted."""
        contents = [version.manifest.content for version in self._versions]
        return {
            split: SplitSize(
                sum(version.samples(split) for version in self._versions if split in version.manifest.content.splits),
                sum(shard.bytes for content in contents if split in content.splits for shard in content.splits[split].shards),
            )
            for split in self.splits
        }  # fmt: skip

    def notes(self) -> list[str]:
        """What will be done, and lost, as far as the manifests tell. Raises BalanceError where nothing would be left."""
        shard, out = self.recipe.shard, []
        order = (
            "in their present order" if self.keep_places else f"by {', '.join(shard.order_by) or f'hash, seed {shard.seed}'}"
        )
        for split, size in self.sizes().items():
            out.append(f"{split}: {size.samples:,} samples to {shard.count} shards {order} (remainder: {shard.remainder})")
        waiting = sum(version.manifest.lineage.counts.carried for version in self._versions)
        if waiting:
            what = "stay where they are: they are not yet encoded" if self._encoded else "are taken along, at the end"
            out.append(f"{waiting:,} samples that wait for a later version {what}")
        if self._options.where is not None:
            out.append(f"only samples where {self._options.where}")
        if self._options.where is not None or (waiting and not self._encoded):
            if shard.remainder == "drop":
                out.append(f"warning: of what is then there, up to {shard.count - 1} samples of each split will be lost (drop)")
            return out
        lost = plan_shards(self.sizes(), shard).dropped
        samples = {split: size.samples for split, size in self.sizes().items()}
        out += [
            f"warning: {count} of the {samples[split]:,} samples of {split} will be lost (drop)"
            for split, count in lost.items()
            if count
        ]
        return out


class Where:
    """A stage: only the samples of which a predicate is true; null is not true."""

    name = "where"

    def __init__(self, text: str, schema: Schema) -> None:
        self._text, self._schema = text, schema

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The samples that stay; the others are counted."""
        stored = {field.name: batch[field.name].cast(column(field).arrow_type) for field in scalar_fields(self._schema)}
        asked = pa.table({**stored, "_row": np.arange(batch.num_rows)})
        rows = asked.filter(parse_predicate(self._text, self._schema))["_row"].combine_chunks()
        return batch.take(rows), Rejects(filtered=batch.num_rows - len(rows))


def open_reshard(urls: Sequence[str], options: ReshardOptions, *, version: str = "latest") -> Reshard:
    """What is to be done, checked against the manifests of the sources; Spark is not started. `version` is for one source."""
    if version != "latest" and len(urls) > 1:
        raise ConfigError([f"--version {version}: expected one source, found {len(urls)}"])
    return Reshard([Version.open(url, version) for url in urls], options, urls)


def reshard(
    work: Reshard, output: str, *, hdfs: HdfsOptions | None = None, new_version: bool = False, wait_seconds: float = 0,
    quiet: bool = False,
) -> Published:  # fmt: skip
    """Publish to `output`: a new version where that is one of the sources. Raises what a prepare job raises.

    `hdfs` says how HDFS keeps the files, where `output` is there. A job that holds it is waited for, `wait_seconds` at most.
    """
    mine = open_storage(output).url in work.urls
    return run(work, output, hdfs=hdfs, new_version=new_version or mine, wait_seconds=wait_seconds, quiet=quiet)


def _check_together(versions: Sequence[Version]) -> None:
    """Raise SchemaError that lists what keeps versions from being merged."""
    first = versions[0]
    for other in versions[1:]:
        one, two = first.manifest.content, other.manifest.content
        fields = [{field.name: field.model_dump() for field in content.dataset_schema} for content in (one, two)]
        problems = _differences("field", *fields)
        if not problems and one.dataset_schema != two.dataset_schema:
            problems = [
                f"fields in another order: {', '.join(one.dataset_schema.names)}; {', '.join(two.dataset_schema.names)}"
            ]
        problems += _differences("transform at write of", *(_at_write(content.transforms) for content in (one, two)))
        problems += _differences("transform at read of", *(_policies(content.transforms) for content in (one, two)))
        problems += _differences("compression of", *(_codecs(content.compression) for content in (one, two)))
        if problems:
            raise SchemaError(f"{first} and {other} can't be merged: {'; '.join(problems)}")


def _differences(what: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    out = []
    for name in sorted(one.keys() | two.keys()):
        here, there = one.get(name), two.get(name)
        if here is None or there is None:
            out.append(f"{what} {name!r} is in the {'second' if here is None else 'first'} alone")
        elif here != there:
            keys = [key for key in here if here[key] != there.get(key)]
            shown = ", ".join(f"{key} {here[key]} and {there.get(key)}" for key in keys)
            out.append(f"{what} {name!r}: {shown}")
    return out


def _at_write(transforms: Sequence[Transform]) -> dict[str, Any]:
    return {transform.field: transform.model_dump() for transform in transforms if transform.at == "write"}


def _codecs(records: Mapping[str, Compression]) -> dict[str, Any]:
    return {name: {"codec": record.codec, "configuration": record.configuration} for name, record in records.items()}


def _policies(transforms: Sequence[Transform]) -> dict[str, Any]:
    """The policies at read that gave these transforms."""
    at_read = [transform for transform in transforms if transform.at == "read" and isinstance(transform, Affine)]
    return {transform.field: {"method": _METHODS[transform.name], "at": "read"} for transform in at_read}


def _splits(versions: Sequence[Version], options: ReshardOptions) -> tuple[str, ...]:
    known = sorted({split for version in versions for split in version.manifest.content.splits})
    for split in options.splits:
        if split not in known:
            raise DatasetNotFoundError(f"no split {split!r} in {versions[0]}: {suggest(split, known)}")
    return tuple(sorted(set(options.splits))) or tuple(known)


def _shard_options(versions: Sequence[Version], options: ReshardOptions, *, keep_places: bool) -> ShardOptions:
    plans = [version.manifest.content.plan for version in versions]
    plan = plans[0]
    if options.order_by:
        order, by = "keep", options.order_by
    elif keep_places or (options.seed is None and all((p.order, p.order_by) == (plan.order, plan.order_by) for p in plans)):
        order, by = plan.order, plan.order_by
    elif options.seed is not None:
        order, by = "shuffled", ()
    else:
        raise ConfigError([f"{versions[0]} and the others are in different orders: add --order-by, or --seed to shuffle"])
    asked = {name: getattr(options, name) for name in ("part_bytes", "row_group_bytes", "block_bytes", "window_blocks")}
    sizes = {name: value or getattr(plan, name) for name, value in asked.items()}
    try:
        return ShardOptions.model_validate(
            {
                "count": options.shards, "remainder": options.remainder or plan.remainder, "order": order, "order_by": by,
                "seed": plan.seed if options.seed is None else options.seed,
                **{name: value for name, value in sizes.items() if value is not None},
            }
        )  # fmt: skip
    except ValidationError as error:
        raise ConfigError([str(detail["msg"]).removeprefix("Value error, ") for detail in error.errors()]) from error


def _standardise(version: Version, splits: Sequence[str]) -> StandardiseOptions:
    """What the reader applies is fitted anew, in the same way."""
    content = version.manifest.content
    features = {}
    for transform in content.transforms:
        if transform.at == "read" and isinstance(transform, Affine):
            channels = len(content.statistics.fields[transform.field].mean)
            per = "field" if len(transform.affine()[0]) < channels else "channel"
            features[transform.field] = Scaling(method=_METHODS[transform.name], at="read", per=per)
    split = content.statistics.split
    return StandardiseOptions(features=features, split=split if split in splits else min(splits))


def _compress(version: Version) -> CompressOptions:
    """What Parquet compresses; values that are encoded stay as they are."""
    manifest = version.manifest
    columns = manifest.provenance.configuration.get("compress", {}).get("columns", "zstd")
    fields = {
        name: FieldCompression.model_validate({"codec": record.codec, **record.configuration})
        for name, record in manifest.content.compression.items()
        if record.level == "column"
    }
    return CompressOptions.model_validate({"columns": columns, "fields": fields})
