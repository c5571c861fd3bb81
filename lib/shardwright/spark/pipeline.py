"""The recipe: from an input to a published version.

Passes, each of which Spark runs at once: *read* (read, clean and split fused into one function over batches, samples staged),
*place* (which place begins each part; where samples have equal keys, they are numbered first), *fit* (the parameters of what
is transformed at write; only where something is), *write* (every part: transformed, encoded, measured, with its statistics).
Reading, fitting and writing leave their results in the attempt's directory, so that a killed run goes on after them.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

from pydantic import TypeAdapter
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from shardwright.config import Config, Recipe
from shardwright.errors import InputError, TooManyRejectedError
from shardwright.format.checksums import show_sums
from shardwright.format.manifest import Counts, Lineage, Manifest, Transform
from shardwright.schema import Schema
from shardwright.sources import open_source
from shardwright.spark.assemble import Assembly
from shardwright.spark.carrying import Carried, CarryPass
from shardwright.spark.encoding import Encoding, compression
from shardwright.spark.fitting import FEW_TASKS, FitPass
from shardwright.spark.hosts import check_reachable, on_one_host
from shardwright.spark.index import AssignSplits, IndexFiles, Renumber, number_repeated
from shardwright.spark.messages import reader_notes
from shardwright.spark.progress import Passes
from shardwright.spark.provenance import provenance
from shardwright.spark.ranks import ByClass, ByPlace, Keys, find_keys
from shardwright.spark.reading import REPORT, FrameRows, ReadPass, ReadReport, Rows, SourceRows
from shardwright.spark.session import executor_errors, open_session
from shardwright.spark.tables import open_table
from shardwright.spark.work import Work, frame_schema
from shardwright.spark.writing import PART, ROUTED, PartReport, RoutePass, WritePass, routes
from shardwright.stages.clean import CleanOptions
from shardwright.stages.compress import CompressOptions, check_bounds
from shardwright.stages.map import MapOptions
from shardwright.stages.publish import PIPELINE_VERSION, Publication, Published, check_configuration, newest_version
from shardwright.stages.shard import ShardOptions, ShardPlan, SplitSize, boundary_ranks, plan_shards
from shardwright.stages.split import SplitOptions, StratifiedSplit, class_cuts
from shardwright.stages.standardise import FitTransforms, StandardiseOptions
from shardwright.storage import HdfsOptions, open_storage, open_writable

_TRANSFORMS: TypeAdapter[tuple[Transform, ...]] = TypeAdapter(tuple[Transform, ...])
_STAGED = ("data", "index", "quarantine", "numbered", "carry", "parts", "version")
"""Directories of an attempt."""
_KNOWN_OTHERWISE = {"path", "query", "columns", "fields", "key", "duplicate_keys", "task_bytes"}
"""What of [read] is in the inputs, the schema or the recipe, or of no influence."""


def prepare(config: Config, *, new_version: bool = False, wait_seconds: float = 0, quiet: bool = False) -> Published:
    """Run a prepare job: read what `config` names, publish it to `config.output`.

    Nothing is done, and Spark not started, when the newest version was made by the same configuration from the same inputs.
    Where another job holds the dataset, it is waited for, `wait_seconds` at most; then LockedError is raised.
    """
    work = work_of(config)
    return run(work, config.output, hdfs=config.publish, new_version=new_version, wait_seconds=wait_seconds, quiet=quiet)


def is_due(config: Config) -> bool:
    """Whether `prepare` would have something to do: there is no version of the same configuration from the same inputs.

    Lists the inputs; starts Spark only for what Spark reads.
    """
    standing = newest_version(open_storage(config.output))
    return standing is None or not work_of(config).done_by(standing)


def stored_schema(config: Config) -> Schema | None:
    """What the job would store, from the input's own schema; None for a table or a query, which only Spark can look into.

    Raises what is wrong with the input or with the fields that `config` names.
    """
    if config.read.by_spark:
        return None
    work = work_of(config)
    return work.recipe.stored(work.schema)


def work_of(config: Config) -> Work:
    """What a prepare job has to do; starts Spark only for what Spark reads. Raises what is wrong with input or options."""
    read = config.read
    asked = {"read": read.model_dump(mode="json", exclude=_KNOWN_OTHERWISE, exclude_defaults=True)}
    if read.by_spark:
        frame, described = open_table(read, config.name)
        schema = frame_schema(frame, read.fields, read.columns, where=described)
        return Work(frame, config.recipe(), config.name, schema=schema, described=described, asked=asked)
    source = open_source(
        read.format, read.paths, fields=read.fields, columns=read.columns, rename=read.rename, options=read.options
    )
    reader = read.format if ":" in read.format else None
    return Work(source, config.recipe(), config.name, asked=asked, reader=reader, paths=read.paths)


def write_dataset(
    frame: DataFrame,
    url: str,
    *,
    shards: int | ShardOptions,
    schema: Schema | None = None,
    key: tuple[str, ...] = (),
    clean: CleanOptions | None = None,
    map: Sequence[MapOptions] = (),  # noqa: A002 - its name in the configuration
    split: SplitOptions | None = None,
    standardise: StandardiseOptions | None = None,
    compress: CompressOptions | None = None,
    hdfs: HdfsOptions | None = None,
    new_version: bool = False,
    wait_seconds: float = 0,
    quiet: bool = False,
) -> Published:
    """Publish the rows of `frame` as a dataset at `url`, with all that a prepare job guarantees.

    `schema` says what the columns hold, by default what their Spark types say: arrays of numbers are arrays of one dimension;
    declare `Field(name="image", dtype="uint8", shape=(28, 28))` for binary columns of C-order bytes or `numpy.save` cells.
    `key` names the columns that identify a sample, by default all. The frame is evaluated once. Publishing the same samples
    again changes nothing. `hdfs` says how HDFS keeps the files, where `url` is there. A job that holds the dataset is waited
    for, `wait_seconds` at most.

    Raises what a prepare job raises: SchemaError, TooManyRejectedError, BalanceError, DatasetConflictError, LockedError, ….
    """
    recipe = Recipe(
        key=key,
        clean=clean or CleanOptions(),
        map=tuple(map),
        split=split or SplitOptions(),
        standardise=standardise or StandardiseOptions(),
        compress=compress or CompressOptions(),
        shard=ShardOptions(count=shards) if isinstance(shards, int) else shards,
    )
    work = Work(frame, recipe, "dataframe", schema=schema)
    return run(work, url, hdfs=hdfs, new_version=new_version, wait_seconds=wait_seconds, quiet=quiet)


def run(
    work: Work, url: str, *, hdfs: HdfsOptions | None = None, new_version: bool, wait_seconds: float = 0, quiet: bool
) -> Published:
    """Publish what `work` makes to `url`; nothing is done where the newest version is its result."""
    with Publication(open_writable(url, hdfs), work.attempt, wait_seconds=wait_seconds) as publication:
        standing = newest_version(publication.storage)
        if standing and work.done_by(standing):
            return publication.adopt(standing, "nothing to do: same configuration, same inputs")
        if standing:
            check_configuration(standing, work.configuration_sha256, new_version=new_version)
        with executor_errors(work.own_code):
            return _Job(work, publication, url, quiet=quiet).run(standing)


class _Job:
    """One run of the passes."""

    def __init__(self, work: Work, publication: Publication, output: str, *, quiet: bool) -> None:
        self._work = work
        self._recipe = work.recipe
        self._publication = publication
        self._directory = publication.attempt
        self._spark = work.data.sparkSession if isinstance(work.data, DataFrame) else open_session(work.name)
        master = self._spark.sparkContext.master
        named_input, named_output = work.places
        check_reachable(master, {output: named_output, **dict.fromkeys(work.paths, named_input)})
        self._exchange = work.exchange(self._directory.child("data"), one_host=on_one_host(master))
        self._passes = Passes(self._spark.sparkContext, quiet=quiet)

    def run(self, standing: Published | None) -> Published:
        """Read, place, write, publish."""
        once, passes = self._publication.once, self._passes
        for note in reader_notes(self._recipe, self._recipe.stored(self._work.schema)):
            passes.say(f"note     {note}")
        report = ReadReport.from_json(once("read", self._read))
        self._say_read(report)
        self._check_rejected(report)
        names = {*self._work.splits, *report.samples}
        sizes = {name: SplitSize(report.samples[name], report.bytes[name]) for name in sorted(names)}
        plan = plan_shards(sizes, self._recipe.shard)
        placed = functools.cache(lambda: self._place(report, plan))
        transforms: tuple[Transform, ...] = ()
        if self._recipe.standardise.at_write():
            transforms = _TRANSFORMS.validate_python(once("fit", lambda: self._fit(plan, *placed())))
        carried: list[str] = []
        if any(plan.carried.values()):
            carried = once("carry", lambda: self._carry(plan, *placed()))
            passes.say(f"carry    {sum(plan.carried.values()):,} samples wait for a later version")
        encoding = Encoding.plan(self._work.schema, self._recipe.standardise, self._recipe.compress, transforms)
        parts = [PartReport.from_json(text) for text in once("write", lambda: self._write(encoding, plan, *placed()))]
        passes.say(f"write    {sum(plan.published.values()):,} samples in {len(parts)} parts")
        left = [Carried.from_json(text) for text in carried]
        return self._publish(standing, report, plan, encoding, transforms, parts, left)

    def _read(self) -> str:
        for name in _STAGED:
            self._directory.delete(name)
            self._directory.make_directory(name)
        work, recipe = self._work, self._recipe
        if isinstance(work.data, DataFrame):
            names = work.input_schema.names
            frame, rows = work.data.select(*names), cast(Rows, FrameRows(names))
        else:
            tasks = work.data.tasks(recipe.task_bytes)
            frame = self._spark.range(0, len(tasks), 1, len(tasks))
            rows = SourceRows.staged(work.data, tasks, self._directory.child("data"))
        read = ReadPass(
            rows=rows, maps=work.maps(), schema=work.schema, exchange=self._exchange, directory=self._directory,
            seed=recipe.shard.seed, checksums=work.checksums,
        )  # fmt: skip
        total = ReadReport()
        for text in self._collect("read", frame, read):
            total.merge(ReadReport.from_json(text))
        return (self._stratify(total) if total.classes else total).to_json()

    def _stratify(self, report: ReadReport) -> ReadReport:
        """The report with the splits of samples that are cut class by class: the index is written anew with them."""
        options = self._recipe.split
        index = IndexFiles(self._directory.child("index"), tuple(report.index_files))
        classes = {bytes.fromhex(name): count for name, count in sorted(report.classes.items())}
        cuts = class_cuts(classes, options)
        with self._passes.show("split"):
            found = find_keys(self._spark, index, ByClass(options.seed), {"": sum(classes.values())}, {"": cuts})
        assert found is not None  # equal keys are allowed here
        splits = StratifiedSplit.at(options, list(classes), [found[""][cut] for cut in cuts])
        assign = AssignSplits(index, splits, options.seed, keep_order=bool(self._recipe.shard.order_by))
        assigned = ReadReport(
            read=report.read, quarantined=report.quarantined, filtered=report.filtered, classes=report.classes,
            quarantine_files=report.quarantine_files, checksums=report.checksums, first_reasons=report.first_reasons,
        )  # fmt: skip
        for text in self._collect("split", index.numbers(self._spark), assign):
            assigned.merge(ReadReport.from_json(text))
        return assigned

    def _say_read(self, report: ReadReport) -> None:
        splits = ", ".join(f"{name} {count:,}" for name, count in sorted(report.samples.items()))
        filtered = f", {report.filtered:,} filtered out" if report.filtered else ""
        self._passes.say(f"read     {report.read:,} samples, {report.quarantined:,} rejected{filtered}; {splits}")
        if report.classes:
            whole = len(self._recipe.split.fractions or ())
            few = sum(count < whole for count in report.classes.values())
            missing = f"; {few:,} of them have fewer samples than there are splits" if few else ""
            self._passes.say(f"split    {len(report.classes):,} classes of {self._recipe.split.stratify!r}{missing}")

    def _check_rejected(self, report: ReadReport) -> None:
        if not report.read:
            raise InputError(f"expected samples, found none in {', '.join(entry.path for entry in self._work.inputs[:3])}")
        limit = self._recipe.clean.max_rejected
        if report.quarantined > limit * report.read:
            raise TooManyRejectedError(
                f"{report.quarantined} of {report.read} samples were rejected, clean.max_rejected allows {limit:.2%}: "
                f"{'; '.join(report.first_reasons)} (all of them, with their reasons: {self._directory.url}/quarantine)"
            )

    def _fit(self, plan: ShardPlan, index: IndexFiles, keys: Keys) -> list[dict[str, Any]]:
        """The transforms at write, fitted to what will be published of one split, as JSON."""
        schema, options, split = self._work.schema, self._recipe.standardise, self._statistics_split(plan)
        end = routes(plan.parts, keys)[split].end
        work = FitPass(index=index, exchange=self._exchange, schema=schema, options=options, split=split, end=end)
        step: Callable[..., Any] = work
        frame = index.numbers(self._spark)
        if len(index.names) > FEW_TASKS:
            frame = frame.mapInArrow(work, from_arrow_schema(REPORT)).repartition(math.isqrt(len(index.names)))
            step = work.merge
        fit = FitTransforms(schema, options)
        for text in self._collect("fit", frame, step):
            fit.merge(json.loads(text))
        fitted = fit.finish()
        samples = plan.published[split] - plan.padded[split]
        self._passes.say(f"fit      {', '.join(transform.field for transform in fitted)} to {samples:,} samples")
        return [transform.model_dump(mode="json") for transform in fitted]

    def _write(self, encoding: Encoding, plan: ShardPlan, index: IndexFiles, keys: Keys) -> list[str]:
        self._directory.delete("parts")
        self._directory.make_directory("parts")
        route = RoutePass(index, routes(plan.parts, keys), self._exchange)
        routed = index.numbers(self._spark).mapInArrow(route, from_arrow_schema(self._exchange.sent(ROUTED)))
        write = WritePass(
            encoding=encoding, parts=plan.parts, padded=plan.padded, exchange=self._exchange,
            directory=self._directory.child("parts"), row_group_bytes=self._recipe.shard.row_group_bytes,
            statistics_split=self._statistics_split(plan),
        )  # fmt: skip
        return self._collect("write", routed.repartitionById(len(plan.parts), sf.col(PART)), write)

    def _place(self, report: ReadReport, plan: ShardPlan) -> tuple[IndexFiles, Keys]:
        """The index with every sample's final place, and the place keys at which parts begin."""
        index = IndexFiles(self._directory.child("index"), tuple(report.index_files))
        with self._passes.show("place"):
            # where the order of values is kept, samples of one key can have places apart, which nobody would notice
            apart = bool(self._recipe.shard.order_by and self._recipe.key)
            keys = None if apart else self._find_places(index, report, plan)
            if keys is None:
                index, numbered = self._number(index)
                keys = self._find_places(index, numbered, plan)
        assert keys is not None  # numbered keys are unique
        return index, keys

    def _find_places(self, index: IndexFiles, report: ReadReport, plan: ShardPlan) -> Keys | None:
        ranks = {split: boundary_ranks(plan.parts, split) for split in report.samples}
        return find_keys(self._spark, index, ByPlace(), report.samples, ranks, report.bins)

    def _carry(self, plan: ShardPlan, index: IndexFiles, keys: Keys) -> list[str]:
        """What is left for a later version, written; one report a split."""
        self._directory.delete("carry")
        self._directory.make_directory("carry")
        work = CarryPass(
            index=index, routes=routes(plan.parts, keys), exchange=self._exchange, schema=self._work.schema,
            directory=self._directory.child("carry"),
        )  # fmt: skip
        return self._collect("carry", work.frame(self._spark), work)

    def _number(self, index: IndexFiles) -> tuple[IndexFiles, ReadReport]:
        """The index with the occurrences of equal keys numbered, and the counts of places after that."""
        recipe, directory = self._recipe, self._directory.child("numbered")
        frame = number_repeated(
            index.frame(self._spark, self._exchange), self._exchange, tasks=len(index.names),
            conflicts_are_errors=recipe.duplicate_keys == "error",
        )  # fmt: skip
        renumber = Renumber(directory, self._exchange, recipe.shard.seed, keep_order=bool(recipe.shard.order_by))
        total = ReadReport()
        for text in self._collect("number", frame, renumber):
            total.merge(ReadReport.from_json(text))
        return IndexFiles(directory, tuple(total.index_files)), total

    def _collect(self, name: str, frame: DataFrame, work: Callable[..., Any]) -> list[str]:
        with self._passes.show(name):
            rows = frame.mapInArrow(work, from_arrow_schema(REPORT)).collect()
        return [row.report for row in rows]

    def _statistics_split(self, plan: ShardPlan) -> str:
        """The split that statistics are taken of: the configured one, or the first where that does not exist."""
        wanted = self._recipe.standardise.split
        if wanted in plan.published:
            return wanted
        if self._recipe.standardise.policies:
            raise InputError(f"standardise.split: no split {wanted!r}; there are {', '.join(sorted(plan.published))}")
        return min(plan.published)

    def _publish(
        self, standing: Published | None, report: ReadReport, plan: ShardPlan, encoding: Encoding,
        fitted: tuple[Transform, ...], parts: list[PartReport], carried: list[Carried],
    ) -> Published:  # fmt: skip
        work = self._work
        fit = encoding.collector()
        for part in parts:
            if part.statistics:
                fit.merge(part.statistics)
        column_bytes = sum((Counter(part.column_bytes) for part in parts), Counter[str]())
        measured = compression(encoding, [part.compression for part in parts], column_bytes)
        check_bounds(self._recipe.compress, measured)
        compressed = work.records(measured, column_bytes, plan)
        at_read = fit.transforms(self._recipe.standardise)
        transforms = sorted((*work.fitted, *fitted, *at_read), key=lambda transform: transform.field)
        assembly = Assembly(encoding, self._recipe.shard, plan, parts)
        assembly.add_quarantine(report.quarantine_files, "quarantine")
        assembly.files |= {one.digest.name: f"carry/{one.file}" for one in carried}
        content = assembly.content(fit.finish(self._statistics_split(plan)), tuple(transforms), compressed)
        lineage = Lineage(
            inputs=work.inputs,
            parent=standing.version if standing else None,
            counts=_counts(report, plan),
            configuration_sha256=work.configuration_sha256,
            inputs_sha256=work.inputs_sha256,
            pipeline_version=PIPELINE_VERSION,
            carried=tuple(one.digest for one in sorted(carried, key=lambda one: one.split)),
            checksums=show_sums(report.checksums),
        )
        made = provenance(self._spark.sparkContext, work.configuration, self._passes.seconds)
        manifest = Manifest.seal(content, lineage, made)
        same = standing and standing.manifest.content_id == manifest.content_id
        if standing and same and _kept(standing.manifest.lineage) == _kept(lineage):
            return self._publication.adopt(standing, "nothing new: the inputs hold the same samples")
        note = f"a new version after {standing.version}" if standing else "the first version"
        return self._publication.publish(assembly.files, manifest, note)


def _kept(lineage: Lineage) -> tuple[object, ...]:
    """What two versions of the same content can differ in that somebody needs."""
    return lineage.carried, lineage.checksums


def _counts(report: ReadReport, plan: ShardPlan) -> Counts:
    counts = Counts(
        read=report.read,
        padded=sum(plan.padded.values()),
        published=sum(plan.published.values()),
        quarantined=report.quarantined,
        dropped=sum(plan.dropped.values()),
        carried=sum(plan.carried.values()),
        filtered=report.filtered,
    )
    left_out = counts.quarantined + counts.dropped + counts.carried + counts.filtered
    if counts.read + counts.padded != counts.published + left_out:
        raise AssertionError(f"samples were lost: {counts}")
    return counts
