"""Migrate: a dataset of another system becomes one of ours, and is shown to hold the same samples.

Checksums of every field (`format.checksums`) are computed of the input before anything is written, stored in the new version's
provenance, and computed again of what the reader gives back of that version. They have to be equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.config import Config, make_config
from shardwright.errors import CorruptError, InputError
from shardwright.format.batch import is_masked, mask_name, to_arrays
from shardwright.format.checksums import ROWS, Checksums, as_read
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.stored import part_files, stored_samples
from shardwright.reader.verify_part import PartRows, parts_of
from shardwright.schema import Field, Schema
from shardwright.sources import REJECT, Source, Task
from shardwright.sources.detect import detect
from shardwright.spark.hosts import check_reachable
from shardwright.spark.messages import result_json, result_text
from shardwright.spark.pipeline import run, work_of
from shardwright.spark.progress import Passes
from shardwright.spark.published import published_parts
from shardwright.spark.reading import REPORT
from shardwright.spark.session import executor_errors, open_session
from shardwright.stages.publish import Published, newest_version
from shardwright.storage import open_storage

CHECKSUMS = "migrated"
"""The key of the provenance's configuration that holds what was computed of the input."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A version, and the checksums that input and version have."""

    published: Published
    checksums: Checksums


def migration(
    url: str,
    output: str,
    *,
    format: str = "auto",  # noqa: A002 - its name in the configuration
    shards: int = 1,
    order_by: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Config:
    """The configuration that migrates the dataset at `url`: nothing is rejected, dropped, or made another value.

    `format` "auto" looks what it is. `order_by` names fields whose order is kept; else samples are shuffled. `overrides` are
    keys of a configuration, such as ``read.columns=["id"]``. Raises ConfigError, InputError.
    """
    found = detect(url) if format == "auto" else format
    if found == "shardwright":
        raise InputError(f"{url}: is a dataset of shardwright already; jobs/reshard.py gives it another number of shards")
    values: dict[str, Any] = {
        "name": _name_of(output),
        "read": {"format": found, "path": url},
        "clean": {"non_finite": "keep", "max_rejected": 0},
        "shard": {"count": shards, "remainder": "spread"},
    }
    if order_by:
        values["shard"] |= {"order": "keep", "order_by": list(order_by)}
    return make_config(values, overrides, output=output, where="migration")


def _name_of(output: str) -> str:
    """A name for the job, of the directory that is written."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", output.rstrip("/").rpartition("/")[2]).lstrip("._-")
    return name or "migrated"


def migrate(config: Config, *, new_version: bool = False, wait_seconds: float = 0, quiet: bool = False) -> Migrated:
    """Publish what `config` reads, and compare it with the input, field by field.

    Nothing is done where the newest version was migrated from the same input by the same configuration.

    Raises what `prepare` raises; InputError for an input with rows that can't be read; CorruptError where a checksum differs:
    the version stands then, and is not to be used.
    """
    work = work_of(config)
    standing = newest_version(open_storage(config.output))
    if standing is not None and work.done_by(standing) and CHECKSUMS in standing.manifest.provenance.configuration:
        told = Checksums.from_json(standing.manifest.provenance.configuration[CHECKSUMS])
        return Migrated(published=run(work, config.output, new_version=False, quiet=quiet), checksums=told)
    session = open_session(config.name)
    check_reachable(session.sparkContext.master, {config.output: "--output", **dict.fromkeys(work.paths, "INPUT")})
    passes = Passes(session.sparkContext, quiet=quiet)
    source: Any = work.data
    tasks = source.tasks(config.read.task_bytes)
    before = _collect(session, passes, "before", len(tasks), _OfTasks(source, source.schema, tuple(tasks)))
    passes.say(f"before   {before.samples:,} samples, {len(before.sums) - 1} fields")
    work.configuration[CHECKSUMS] = before.to_json()
    published = run(work, config.output, hdfs=config.publish, new_version=new_version, wait_seconds=wait_seconds, quiet=quiet)
    storage = open_storage(published.url)
    name, manifest = read_manifest(storage, published.version)
    parts = parts_of(read_index(storage, name, manifest))
    step = _OfParts(published.url, name, manifest.content.index.sha256, manifest.content.dataset_schema)
    after = _collect(session, passes, "after", len(parts), step)
    _compare(before, after, f"{published.url}/{name}")
    passes.say(f"after    {after.samples:,} samples: every checksum is the input's")
    return Migrated(published=published, checksums=before)


def _collect(session: SparkSession, passes: Passes, name: str, count: int, step: Any) -> Checksums:
    total = Checksums()
    numbers = session.range(0, count, 1, max(count, 1))
    with passes.show(name), executor_errors():
        rows = numbers.mapInArrow(step, from_arrow_schema(REPORT)).collect()
    for row in rows:
        total.merge(Checksums.from_json(json.loads(row.report)))
    return total


def _compare(before: Checksums, after: Checksums, where: str) -> None:
    if (before.samples, before.sums) == (after.samples, after.sums):
        return
    changed = sorted(name for name in before.sums if before.sums[name] != after.sums.get(name))
    raise CorruptError(
        f"{where}: {after.samples:,} samples of {before.samples:,} in the input; the checksums of {', '.join(changed)} "
        "differ: do not use this version, and report this"
    )


@dataclass(frozen=True)
class _OfTasks:
    """Checksums of what the tasks whose numbers Spark hands out read."""

    source: Source
    schema: Schema
    tasks: Sequence[Task]

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                found = Checksums()
                for samples in self.source.read(self.tasks[number]):
                    self._check(samples)
                    found.add(self.schema, {field.name: as_read(field, samples.column(field.name)) for field in self.schema})
                yield _report(found)

    def _check(self, samples: pa.RecordBatch) -> None:
        if REJECT in samples.schema.names and samples.column(REJECT).null_count < samples.num_rows:
            row = next(row for row, why in enumerate(samples.column(REJECT).to_pylist()) if why is not None)
            raise InputError(
                f"{samples.column('_source')[row].as_py()}: {samples.column(REJECT)[row].as_py()}; no sample may be lost: "
                "mend the input, or leave the field out by --set read.columns=…"
            )


@dataclass(frozen=True)
class _OfParts:
    """Checksums of the parts whose numbers Spark hands out, as they are read back."""

    url: str
    version: str
    index_sha256: str
    schema: Schema

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = published_parts(self.url, self.version, self.index_sha256)
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                yield _report(self._of(parts[number]))

    def _of(self, part: PartRows) -> Checksums:
        found = Checksums()
        files = part_files(self.url, self.version, part.name, part.digest.bytes)
        for stored in stored_samples(files, 0, self.schema, self.schema.names):
            found.add(self.schema, {field.name: _handed_out(field, stored.column(field.name)) for field in self.schema})
        return found


def _handed_out(field: Field, stored: pa.Array) -> list[Any]:
    """The values of a column as the reader gives them, for `Checksums.add`."""
    if field.is_image:
        return list(stored.to_pylist())
    arrays = to_arrays(field, stored)
    values = arrays[field.name]
    if field.dtype == "timestamp":
        values = values.astype("<M8[us]").astype(np.int64)
    if not is_masked(field):
        return list(values)
    return [None if missing else value for value, missing in zip(values, arrays[mask_name(field.name)], strict=True)]


def _report(found: Checksums) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"report": json.dumps(found.to_json())}], REPORT)


def migrated_json(done: Migrated) -> str:
    """What was migrated, for a scheduler, in one line."""
    return json.dumps({**json.loads(result_json(done.published)), "checksums": done.checksums.to_json()}, ensure_ascii=False)


def migrated_text(done: Migrated) -> str:
    """Where the dataset lies, that it is the input, and how to read it."""
    first, *rest = result_text(done.published).split("\n")
    sums = done.checksums.to_json()["sums"]
    lines = [f"  {name}: checksum {value}, before and after" for name, value in sums.items() if name != ROWS]
    return "\n".join([first, *lines, f"  whole samples: checksum {sums[ROWS]}, before and after", *rest])
