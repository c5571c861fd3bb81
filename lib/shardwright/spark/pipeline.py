"""The recipe: from an input to a published version.

Passes, each of which Spark runs at once: *read* (read, clean and split fused into one function over batches, samples staged),
*place* (which place begins each part; where samples have equal keys, they are numbered first), *write* (every part, with its
statistics). Reading and writing leave their results in the attempt's directory, so that a killed run goes on after them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from shardwright.config import Config, Recipe
from shardwright.errors import InputError, TooManyRejectedError
from shardwright.format.canonical import canonical_sha256
from shardwright.format.manifest import Counts, Input, Lineage, Manifest
from shardwright.schema import Schema
from shardwright.sources import Source, open_source
from shardwright.sources.columns import declare, infer, normal_type
from shardwright.spark.assemble import Assembly
from shardwright.spark.exchange import Exchange, SourceExchange, StagedExchange
from shardwright.spark.index import CountPlaces, IndexFiles, find_boundaries, number_repeated
from shardwright.spark.progress import Passes
from shardwright.spark.provenance import provenance
from shardwright.spark.reading import REPORT, FrameRows, ReadPass, ReadReport, Rows, SourceRows
from shardwright.spark.session import executor_errors, open_session
from shardwright.spark.writing import PART, PartReport, RoutePass, WritePass, routed_schema, routes
from shardwright.stages.clean import Clean, CleanOptions
from shardwright.stages.publish import PIPELINE_VERSION, Publication, Published, check_configuration
from shardwright.stages.read import AddKeys
from shardwright.stages.shard import ShardOptions, ShardPlan, SplitSize, plan_shards
from shardwright.stages.split import Split, SplitOptions
from shardwright.stages.standardise import CollectStatistics, StandardiseOptions, standardisations
from shardwright.storage import open_local

_STAGED = ("data", "index", "quarantine", "numbered", "parts", "version")
"""Directories of an attempt."""


def prepare(config: Config, *, new_version: bool = False, quiet: bool = False) -> Published:
    """Run a prepare job: read what `config` names, publish it to `config.output`.

    Nothing is done, and Spark not started, when the newest version was made by the same configuration from the same inputs.
    """
    read = config.read
    source = open_source(read.format, read.paths, fields=read.fields, columns=read.columns, options=read.options)
    return _run(_Work(source, config.recipe(), config.name), config.output, new_version=new_version, quiet=quiet)


def write_dataset(
    frame: DataFrame,
    url: str,
    *,
    shards: int | ShardOptions,
    schema: Schema | None = None,
    key: tuple[str, ...] = (),
    clean: CleanOptions | None = None,
    split: SplitOptions | None = None,
    standardise: StandardiseOptions | None = None,
    new_version: bool = False,
    quiet: bool = False,
) -> Published:
    """Publish the rows of `frame` as a dataset at `url`, with all that a prepare job guarantees.

    `schema` says what the columns hold, by default what their Spark types say: arrays of numbers are arrays of one dimension;
    declare `Field(name="image", dtype="uint8", shape=(28, 28))` for binary columns of C-order bytes or `numpy.save` cells.
    `key` names the columns that identify a sample, by default all. The frame is evaluated once. Publishing the same samples
    again changes nothing.

    Raises what a prepare job raises: SchemaError, TooManyRejectedError, BalanceError, DatasetConflictError, LockedError, ….
    """
    recipe = Recipe(
        key=key,
        clean=clean or CleanOptions(),
        split=split or SplitOptions(),
        standardise=standardise or StandardiseOptions(),
        shard=ShardOptions(count=shards) if isinstance(shards, int) else shards,
    )
    return _run(_Work(frame, recipe, "dataframe", schema), url, new_version=new_version, quiet=quiet)


class _Work:
    """What is to be done: an input and a recipe."""

    def __init__(self, data: Source | DataFrame, recipe: Recipe, name: str, schema: Schema | None = None) -> None:
        self.data = data
        self.recipe = recipe
        self.name = name
        if isinstance(data, DataFrame):
            self.schema = schema or _schema_of(data)
            self.sample_per_file = False
            self.inputs: tuple[Input, ...] = (Input(path="a Spark DataFrame"),)
            self.inputs_sha256 = None
        else:
            self.schema = data.schema
            self.sample_per_file = data.sample_per_file
            self.inputs = tuple(Input(path=f.path, bytes=f.bytes, modified_ns=f.modified_ns) for f in data.files)
            self.inputs_sha256 = canonical_sha256([entry.model_dump() for entry in self.inputs])
        self.configuration_sha256 = canonical_sha256([recipe.model_dump(mode="json"), self.schema.model_dump(mode="json")])
        recipe.check(self.schema)

    @property
    def attempt(self) -> str:
        """The name of the working directory: the same for the same work."""
        if self.inputs_sha256 is None:
            return uuid.uuid4().hex[:16]
        return canonical_sha256([self.configuration_sha256, self.inputs_sha256, PIPELINE_VERSION])[:16]

    def done_by(self, standing: Published) -> bool:
        """Whether a version is the result of this very work."""
        lineage = standing.manifest.lineage
        mine = (self.configuration_sha256, self.inputs_sha256, PIPELINE_VERSION)
        return self.inputs_sha256 is not None and mine == (
            lineage.configuration_sha256, lineage.inputs_sha256, lineage.pipeline_version,
        )  # fmt: skip


def _run(work: _Work, url: str, *, new_version: bool, quiet: bool) -> Published:
    with Publication(open_local(url), work.attempt) as publication:
        standing = publication.newest()
        if standing and work.done_by(standing):
            return publication.adopt(standing, "nothing to do: same configuration, same inputs")
        if standing:
            check_configuration(standing, work.configuration_sha256, new_version=new_version)
        with executor_errors():
            return _Job(work, publication, quiet=quiet).run(standing)


class _Job:
    """One run of the passes."""

    def __init__(self, work: _Work, publication: Publication, *, quiet: bool) -> None:
        self._work = work
        self._recipe = work.recipe
        self._publication = publication
        self._directory = publication.attempt.path
        self._exchange = _exchange(work.data, self._directory / "data")
        self._spark = work.data.sparkSession if isinstance(work.data, DataFrame) else open_session(work.name)
        self._passes = Passes(self._spark.sparkContext, quiet=quiet)

    def run(self, standing: Published | None) -> Published:
        """Read, place, write, publish."""
        once, passes = self._publication.once, self._passes
        report = ReadReport.from_json(once("read", self._read))
        self._say_read(report)
        self._check_rejected(report)
        sizes = {name: SplitSize(report.samples[name], report.bytes[name]) for name in report.samples}
        plan = plan_shards(sizes, self._recipe.shard)
        parts = [PartReport.from_json(text) for text in once("write", lambda: self._write(report, plan))]
        passes.say(f"write    {sum(plan.published.values()):,} samples in {len(parts)} parts")
        return self._publish(standing, report, plan, parts)

    def _read(self) -> str:
        for name in _STAGED:
            self._publication.attempt.delete(name)
            self._publication.attempt.make_directory(name)
        work, recipe = self._work, self._recipe
        if isinstance(work.data, DataFrame):
            frame, rows = work.data.select(*work.schema.names), cast(Rows, FrameRows(work.schema.names))
        else:
            tasks = tuple(work.data.tasks(recipe.task_bytes))
            frame, rows = self._spark.range(0, len(tasks), 1, len(tasks)), SourceRows(work.data, tasks)
        maps = (
            AddKeys(work.schema, key=recipe.key, sample_per_file=work.sample_per_file),
            Clean(work.schema, recipe.clean),
            Split(work.schema, recipe.split),
        )
        read = ReadPass(
            rows=rows, maps=maps, schema=work.schema, exchange=self._exchange, directory=self._directory,
            seed=recipe.shard.seed, compress=recipe.shard.compress,
        )  # fmt: skip
        total = ReadReport()
        for text in self._collect("read", frame, read):
            total.merge(ReadReport.from_json(text))
        return total.to_json()

    def _say_read(self, report: ReadReport) -> None:
        splits = ", ".join(f"{name} {count:,}" for name, count in sorted(report.samples.items()))
        self._passes.say(f"read     {report.read:,} samples, {report.quarantined:,} rejected; {splits}")

    def _check_rejected(self, report: ReadReport) -> None:
        if not report.read:
            raise InputError(f"expected samples, found none in {', '.join(entry.path for entry in self._work.inputs[:3])}")
        limit = self._recipe.clean.max_rejected
        if report.quarantined > limit * report.read:
            raise TooManyRejectedError(
                f"{report.quarantined} of {report.read} samples were rejected, clean.max_rejected allows {limit:.2%}: "
                f"{'; '.join(report.first_reasons)} (all of them, with their reasons: {self._directory / 'quarantine'})"
            )

    def _write(self, report: ReadReport, plan: ShardPlan) -> list[str]:
        self._publication.attempt.delete("parts")
        self._publication.attempt.make_directory("parts")
        index, keys = self._place(report, plan)
        recipe = self._recipe
        route = RoutePass(index, routes(plan.parts, keys), self._exchange)
        routed = index.numbers(self._spark).mapInArrow(route, from_arrow_schema(routed_schema(self._exchange)))
        write = WritePass(
            schema=self._work.schema, parts=plan.parts, padded=plan.padded, exchange=self._exchange,
            directory=self._directory / "parts", compress=recipe.shard.compress,
            row_group_bytes=recipe.shard.row_group_bytes, statistics_split=self._statistics_split(plan),
            decoded=recipe.standardise.fields,
        )  # fmt: skip
        return self._collect("write", routed.repartitionById(len(plan.parts), sf.col(PART)), write)

    def _place(self, report: ReadReport, plan: ShardPlan) -> tuple[IndexFiles, dict[str, dict[int, bytes]]]:
        """The index with every sample's final place, and the place keys at which parts begin."""
        index = IndexFiles(self._directory / "index", tuple(report.index_files))
        with self._passes.show("place"):
            keys = find_boundaries(self._spark, index, report, plan.parts)
            if keys is None:
                index, numbered = self._number(index)
                keys = find_boundaries(self._spark, index, numbered, plan.parts)
        assert keys is not None  # numbered keys are unique
        return index, keys

    def _number(self, index: IndexFiles) -> tuple[IndexFiles, ReadReport]:
        """The index with the occurrences of equal keys numbered, and the counts of places after that."""
        recipe = self._recipe
        frame = number_repeated(
            index.frame(self._spark, self._exchange), recipe.shard.seed, self._exchange,
            conflicts_are_errors=recipe.duplicate_keys == "error",
        )  # fmt: skip
        directory = self._directory / "numbered"
        frame.write.mode("overwrite").parquet(f"file://{directory}")
        numbered = IndexFiles(directory, tuple(sorted(path.name for path in directory.glob("part-*.parquet"))))
        total = ReadReport()
        for text in self._collect("number", numbered.numbers(self._spark), CountPlaces(numbered)):
            total.merge(ReadReport.from_json(text))
        return numbered, total

    def _collect(self, name: str, frame: DataFrame, work: Callable[..., Any]) -> list[str]:
        with self._passes.show(name):
            rows = frame.mapInArrow(work, from_arrow_schema(REPORT)).collect()
        return [row.report for row in rows]

    def _statistics_split(self, plan: ShardPlan) -> str:
        """The split that statistics are taken of: the configured one, or the first where that does not exist."""
        wanted = self._recipe.standardise.split
        if wanted in plan.published:
            return wanted
        if self._recipe.standardise.fields:
            raise InputError(f"standardise.split: no split {wanted!r}; there are {', '.join(sorted(plan.published))}")
        return min(plan.published)

    def _publish(self, standing: Published | None, report: ReadReport, plan: ShardPlan, parts: list[PartReport]) -> Published:
        work = self._work
        fit = CollectStatistics(work.schema)
        for part in parts:
            if part.statistics:
                fit.merge(part.statistics)
        statistics = fit.finish(self._statistics_split(plan))
        assembly = Assembly(work.schema, self._recipe.shard, plan, parts)
        assembly.add_quarantine(report.quarantine_files, "quarantine")
        content = assembly.content(statistics, standardisations(statistics, self._recipe.standardise))
        lineage = Lineage(
            inputs=work.inputs,
            parent=standing.version if standing else None,
            counts=_counts(report, plan),
            configuration_sha256=work.configuration_sha256,
            inputs_sha256=work.inputs_sha256,
            pipeline_version=PIPELINE_VERSION,
        )
        made = provenance(work.recipe.model_dump(mode="json"), self._passes.seconds)
        manifest = Manifest.seal(content, lineage, made)
        if standing and standing.manifest.content_id == manifest.content_id:
            return self._publication.adopt(standing, "nothing new: the inputs hold the same samples")
        note = f"a new version after {standing.version}" if standing else "the first version"
        return self._publication.publish(assembly.files, manifest, note)


def _counts(report: ReadReport, plan: ShardPlan) -> Counts:
    counts = Counts(
        read=report.read,
        padded=sum(plan.padded.values()),
        published=sum(plan.published.values()),
        quarantined=report.quarantined,
        dropped=sum(plan.dropped.values()),
    )
    if counts.read + counts.padded != counts.published + counts.quarantined + counts.dropped:
        raise AssertionError(f"samples were lost: {counts}")
    return counts


def _exchange(data: Source | DataFrame, directory: Path) -> Exchange:
    if isinstance(data, DataFrame) or not data.addressable:
        return StagedExchange(directory)
    return SourceExchange(data)


def _schema_of(frame: DataFrame) -> Schema:
    found = {field.name: infer(normal_type(field.type)) for field in to_arrow_schema(frame.schema)}
    return declare(found, None, None, where="the DataFrame")
