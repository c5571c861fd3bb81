"""Migration: a prepare job that changes no value, and the proof: checksums of the fields before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.config import Config, make_config
from shardwright.errors import ConfigError, CorruptError, InputError
from shardwright.format.checksums import FieldChecksums, show_sums
from shardwright.format.layout import KEY
from shardwright.reader import open_dataset
from shardwright.sources.files import find_files
from shardwright.sources.look import find_kind
from shardwright.sources.parquet import declared_fields, read_footers
from shardwright.spark.messages import result_json as published_json
from shardwright.spark.messages import result_text as published_text
from shardwright.spark.pipeline import run, work_of
from shardwright.spark.progress import Passes
from shardwright.spark.reading import REPORT
from shardwright.spark.session import executor_errors, open_session
from shardwright.stages.publish import Published

_BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A migrated dataset, and the checksums that its fields have as read from the input and from it."""

    published: Published
    checksums: dict[str, str]


def migration(
    source: str, output: str, *, shards: int, file_format: str | None = None, name: str | None = None, split: str | None = None,
    order_by: str | None = None, columns: str | None = None, settings: Sequence[str] = (),
) -> Config:  # fmt: skip
    """The configuration of a migration: no value changes and no sample is left out, unless `settings` say so.

    `split` is "train=0.9,validation=0.1" or names the field that says it; `order_by` and `columns` are names with commas
    between them. Raises ConfigError, and InputError where `source` looks like nothing that is known.
    """
    kind = file_format or find_kind(source)
    if kind == "shardwright":
        raise ConfigError([f"{source} is a dataset of shardwright already: jobs/reshard.py cuts it anew"])
    read: dict[str, Any] = {"format": kind, "path": source}
    if columns:
        read["columns"] = _names(columns)
    if kind == "parquet":
        footers = read_footers(find_files(source)).values()
        for footer in footers:
            if isinstance(footer, InputError):
                raise footer
        declared = declared_fields(footers)
        read["fields"] = {name: found for name, found in declared.items() if not columns or name in read["columns"]}
    shard: dict[str, Any] = {"count": shards, "remainder": "spread"}
    if order_by:
        shard |= {"order": "keep", "order_by": _names(order_by)}
    values = {
        "name": name or re.sub(r"[^A-Za-z0-9._-]+", "-", output.rstrip("/").rpartition("/")[2]).lstrip("._-") or "migrated",
        "read": read,
        "clean": {"max_rejected": 0, "non_finite": "keep"},
        "split": _split(split) if split else {},
        "shard": shard,
    }
    return make_config(values, settings, output=output, where="--set")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _split(text: str) -> dict[str, Any]:
    if "=" not in text:
        return {"column": text}
    pairs = [part.partition("=") for part in _names(text)]
    try:
        return {"fractions": {name: float(share) for name, _, share in pairs}}
    except ValueError as error:
        raise ConfigError([f"--split {text}: expected the name of a field, or such as train=0.9,validation=0.1"]) from error


def migrate(config: Config, *, new_version: bool = False, wait_seconds: float = 0, quiet: bool = False) -> Migrated:
    """Publish what `config` names as it is, read it back, and compare every field with the input.

    The input's checksums are taken of the values as its reader gives them; they stand in the version's lineage. Where the
    newest version is of the same input already, only that is read and compared.

    Raises ConfigError for a recipe that would change or lose samples, CorruptError where the published version holds other
    values than the input, and what `prepare` raises.
    """
    if problems := _changes(config):
        raise ConfigError(problems)
    work = work_of(config)
    work.checksums = True
    published = run(work, config.output, hdfs=config.publish, new_version=new_version, wait_seconds=wait_seconds, quiet=quiet)
    return Migrated(published=published, checksums=check_migrated(published, quiet=quiet))


def check_migrated(published: Published, *, quiet: bool = False) -> dict[str, str]:
    """Read a migrated version, and compare its fields with the checksums in its lineage, which are returned.

    Raises CorruptError where they or the counts differ.
    """
    manifest = published.manifest
    where = f"{published.url}/{published.version}"
    wanted, counts = manifest.lineage.checksums, manifest.lineage.counts
    if counts.read != counts.published:
        raise CorruptError(f"{where}: expected all of the {counts.read:,} samples, found {counts.published:,}")
    shards = [(split, shard) for split, found in manifest.content.splits.items() for shard in range(len(found.shards))]
    session = open_session("migrate")
    passes = Passes(session.sparkContext, quiet=quiet)
    check = _ReadBack(published.url, published.version, tuple(shards))
    with passes.show("compare"), executor_errors():
        numbers = session.range(0, len(shards), 1, len(shards))
        rows = numbers.mapInArrow(check, from_arrow_schema(REPORT)).collect()
    total = FieldChecksums(manifest.content.dataset_schema)
    for row in rows:
        total.merge(json.loads(row.report))
    found = show_sums(total.sums)
    wrong = [name for name in found if found[name] != wanted.get(name)]
    if wrong:
        raise CorruptError(
            f"{where}: the values of {', '.join(wrong)} are not those of the input (checksums {found[wrong[0]]} here, "
            f"{wanted.get(wrong[0])} there for {wrong[0]}); do not use this version, and report this"
        )
    passes.say(f"compare  {counts.published:,} samples, {len(wanted)} fields: as in the input")
    return dict(wanted)


@dataclass(frozen=True)
class _ReadBack:
    """Reads the shards whose numbers Spark hands out with the dataset's own reader: one report each."""

    url: str
    version: str
    shards: tuple[tuple[str, int], ...]

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                sums = self._sums(*self.shards[number])
                yield pa.RecordBatch.from_pylist([{"report": json.dumps(sums.sums)}], REPORT)

    def _sums(self, split: str, shard: int) -> FieldChecksums:
        dataset = open_dataset(self.url, split=split, version=self.version, shards=[shard])
        schema = dataset.manifest.content.dataset_schema
        sums = FieldChecksums(schema)
        chosen = dataset.reading(*schema.names, KEY, encoded=True)
        size = dataset.manifest.content.splits[split].shards[shard].bytes
        rows = max(1, _BATCH_BYTES * len(dataset) // max(size, 1))
        for start in range(0, len(dataset), rows):
            sums.add_decoded(chosen.take(range(start, min(start + rows, len(dataset)))))
        return sums


def _changes(config: Config) -> list[str]:
    """What in a configuration would change values or leave samples out."""
    return [
        f"{key}: a migration changes and loses nothing; {advice}"
        for key, wrong, advice in (
            ("map", bool(config.map), "run `prepare` on what was migrated"),
            ("standardise", bool(config.standardise.at_write()), 'standardise at = "read"'),
            ("shard.remainder", config.shard.remainder != "spread", 'expected "spread"'),
            ("clean.max_rejected", config.clean.max_rejected != 0, "expected 0; leave out the field that is damaged"),
            ("clean.non_finite", config.clean.non_finite != "keep", 'expected "keep"'),
            ("clean.range", bool(config.clean.range), "leave it out"),
        )
        if wrong
    ]


def result_text(migrated: Migrated) -> str:
    """Where the dataset lies, how to read it, and the checksums."""
    width = max(map(len, migrated.checksums))
    sums = [f"  {name:<{width}} {value}" for name, value in migrated.checksums.items()]
    return "\n".join(
        [published_text(migrated.published), "", "checksums of the fields, the same in the input and in the dataset:", *sums]
    )


def result_json(migrated: Migrated) -> str:
    """The same for a scheduler, in one line."""
    return json.dumps({**json.loads(published_json(migrated.published)), "checksums": migrated.checksums}, ensure_ascii=False)
