"""Comparing a version on storage with what was published: every file, byte, count and place, and the statistics on request.

Part by part: `verify` runs on this machine, or wherever its `run` takes the parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, ShardwrightError
from shardwright.format import layout
from shardwright.format.manifest import Content, FileDigest, Manifest, Statistics
from shardwright.format.versions import read_index, read_manifest
from shardwright.reader.verify_part import CheckPart, Collector, PartCheck, PartRows, check_file, parts_of
from shardwright.storage import Storage, open_storage

Progress = Callable[[int, int], None]
"""Called after each part: how many are done, and how many there are."""
Run = Callable[[CheckPart, Sequence[PartRows]], Iterable[PartCheck]]
"""Checks all parts, wherever that is done; the results come in any order."""
_THREADS = 4
"""Parts that are checked at once on this machine: one stream alone does not use what a network or a few disks give."""


@dataclass
class Report:
    """What was looked at, and everything that is wrong with it."""

    url: str
    version: str = "?"
    files: int = 0
    bytes: int = 0
    samples: int = 0
    statistics: bool = False
    """Whether statistics were recomputed and compared."""
    problems: list[str] = field(default_factory=list)


def verify(
    url: str,
    *,
    version: str = "latest",
    collector: Callable[[Content], Collector] | None = None,
    run: Run | None = None,
    progress: Progress = lambda _done, _parts: None,
) -> Report:
    """Compare all of a version with its manifest and index, and list every problem found.

    With `collector` statistics are recomputed from the stored samples and compared with the manifest's, exactly. `run` checks
    the parts, by default a few at once on this machine, each in pieces of 8 MiB and row group by row group.

    Raises DatasetNotFoundError when there is no such dataset or version, StorageError when the file system refuses.
    """
    storage = open_storage(url, lasting=True)
    report = Report(storage.url)
    try:
        report.version, manifest = read_manifest(storage, version)
        index = read_index(storage, report.version, manifest)
    except CorruptError as error:
        report.problems.append(str(error))  # without these two nothing else can be judged
        return report
    check = CheckPart(storage=storage, version=report.version, content=manifest.content, collector=collector)
    _Verification(storage, manifest, parts_of(index), report).run(check, run or _run_here, progress)
    return report


def _run_here(check: CheckPart, parts: Sequence[PartRows]) -> Iterator[PartCheck]:
    pool = ThreadPoolExecutor(_THREADS, "shardwright-verify")
    try:
        yield from pool.map(check, parts)
    finally:
        pool.shutdown(cancel_futures=True)


class _Verification:
    def __init__(self, storage: Storage, manifest: Manifest, parts: list[PartRows], report: Report) -> None:
        self._storage, self._manifest, self._report = storage, manifest, report
        self._parts = parts
        self._expected: dict[str, FileDigest] = {}
        self._listed = sorted(file.name for file in storage.listing(report.version))

    def run(self, check: CheckPart, run: Run, progress: Progress) -> None:
        self._problems(_check_totals(self._manifest, self._parts))
        self._list_expected()
        collected = check.collector(check.content) if check.collector else None
        found = [*self._check_others(), *self._check_parts(check, run, progress, collected)]
        self._problems(sorted(problem for each in found for problem in each.problems))
        self._check_sums()
        self._check_quarantine()
        self._check_strays()
        self._report.files = sum(each.files for each in found)
        self._report.bytes = sum(each.bytes for each in found)
        self._report.samples = sum(part.samples for part in self._parts)
        if collected and not any(each.problems for each in found):  # else differences say nothing
            self._problems(_compare(self._manifest.content.statistics, collected))
            self._report.statistics = True

    def _list_expected(self) -> None:
        for name, split in self._manifest.content.splits.items():
            self._expected[split.common_metadata.name] = split.common_metadata
            if split.common_metadata.name != f"{name}/{layout.COMMON_METADATA}":
                self._problem(f"{name}/{layout.COMMON_METADATA} is not listed in the manifest")
        self._expected |= {file.name: file for file in self._manifest.lineage.carried}
        for part in self._parts:
            self._expected |= {file.name: file for file in part.files}
        for directory in {part.directory for part in self._parts}:
            for file in (layout.SHARD_METADATA, layout.SUMS):
                if f"{directory}/{file}" not in self._expected:
                    self._problem(f"{directory}/{file} is not listed in the index")

    def _check_others(self) -> Iterator[PartCheck]:
        """The files that lie beside no part."""
        beside_parts = {file.name for part in self._parts for file in part.files}
        for name in sorted(self._expected.keys() - beside_parts):
            file = self._expected[name]
            problems = tuple(check_file(self._storage, self._report.version, file))
            yield PartCheck(problems=problems, files=1, bytes=file.bytes)

    def _check_parts(self, check: CheckPart, run: Run, progress: Progress, collected: Collector | None) -> Iterator[PartCheck]:
        for done, found in enumerate(run(check, self._parts), start=1):
            if collected and found.statistics:
                collected.merge(found.statistics)
            progress(done, len(self._parts))
            yield found

    def _check_sums(self) -> None:
        """The lines of each shard's checksum file."""
        listed: dict[str, dict[str, str]] = defaultdict(dict)
        for part in self._parts:
            for file in (part.digest, *part.side_files):
                directory, _, name = file.name.rpartition("/")
                if name != layout.SUMS:
                    listed[directory][name] = file.sha256
        for directory, files in sorted(listed.items()):
            name = f"{directory}/{layout.SUMS}"
            if name in self._expected:
                self._guarded(name, lambda name=name, files=files: self._compare_sums(name, files))  # type: ignore[misc]

    def _compare_sums(self, name: str, files: dict[str, str]) -> None:
        lines = self._storage.read(self._full(name)).decode("utf-8", "replace").splitlines()
        found = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
        for file in sorted(files.keys() | found.keys()):
            if files.get(file) != found.get(file):
                self._problem(f"{name}: of {file} expected {files.get(file, 'nothing')}, found {found.get(file, 'nothing')}")

    def _check_quarantine(self) -> None:
        rows = 0
        for name in filter(_quarantined, self._listed):
            try:
                with self._storage.open(self._full(name)) as file:
                    rows += pq.read_metadata(file).num_rows
            except (pa.ArrowException, OSError, ValueError) as error:
                self._problem(f"{name}: not a Parquet file ({error})")
        expected = self._manifest.lineage.counts.quarantined
        if rows != expected:
            self._problem(f"{layout.QUARANTINE}: the manifest counts {expected} rejected samples, its files hold {rows}")

    def _check_strays(self) -> None:
        """Files that nobody published."""
        known = {layout.MANIFEST, self._manifest.content.index.name, *self._expected}
        strays = (name for name in self._listed if name not in known and not _quarantined(name))
        self._problems(f"{name}: nobody published this file" for name in strays)

    def _guarded(self, name: str, check: Callable[[], None]) -> None:
        """A check of a file that may be missing or damaged, which is a problem like any other."""
        try:
            check()
        except (ShardwrightError, OSError, pa.ArrowException) as error:
            line = f"{name}: {error}"
            if not any(problem.startswith(f"{name}: ") for problem in self._report.problems):
                self._problem(line)

    def _full(self, name: str) -> str:
        return f"{self._report.version}/{name}"

    def _problem(self, problem: str) -> None:
        self._report.problems.append(problem)

    def _problems(self, problems: Iterable[str]) -> None:
        self._report.problems.extend(problems)


def _quarantined(name: str) -> bool:
    return name.startswith(f"{layout.QUARANTINE}/")


def _compare(expected: Statistics, collected: Collector) -> Iterator[str]:
    """Statistics recomputed beside those in the manifest: both are exact, so any difference is one."""
    found = collected.finish(expected.split).fields
    for name in sorted(expected.fields.keys() | found.keys()):
        here, there = expected.fields.get(name), found.get(name)
        if here is None or there is None:
            yield f"statistics of {name!r} (split {expected.split!r}) are {'missing' if here is None else 'of no field'}"
            continue
        differ = [key for key in type(here).model_fields if getattr(here, key) != getattr(there, key)]
        shown = [
            f"{key} {getattr(here, key)} in the manifest, {getattr(there, key)} recomputed" for key in differ if key in _SHOWN
        ]
        shown += [f"{key} differs" for key in differ if key not in _SHOWN]
        if differ:
            yield f"statistics of {name!r} (split {expected.split!r}): {'; '.join(shown)}"


_SHOWN = ("count", "missing", "elements", "non_finite", "mean", "std", "min", "max")


def _check_totals(manifest: Manifest, parts: list[PartRows]) -> Iterator[str]:
    """Balance, and whether manifest, index and lineage count the same samples."""
    plan, splits, counts = manifest.content.plan, manifest.content.splits, manifest.lineage.counts
    for name, split in splits.items():
        sizes = [shard.samples for shard in split.shards]
        allowed = 1 if plan.remainder == "spread" else 0
        if max(sizes) - min(sizes) > allowed or sizes != sorted(sizes, reverse=True):
            yield f"{name}: shards of {min(sizes)} to {max(sizes)} samples are out of balance (remainder {plan.remainder!r})"
        if len(sizes) != plan.shards.get(name):
            yield f"{name}: the plan says {plan.shards.get(name)} shards, the manifest lists {len(sizes)}"
        if sum(sizes) != split.samples:
            yield f"{name}: {split.samples} samples, but its shards hold {sum(sizes)}"
        for shard, totals in enumerate(split.shards):
            mine = [part for part in parts if (part.split, part.shard) == (name, shard)]
            found = (sum(part.samples for part in mine), len(mine), sum(part.digest.bytes for part in mine))
            expected = (totals.samples, totals.parts, totals.bytes)
            if found != expected:
                yield f"{name} shard {shard}: samples, parts, bytes are {expected} in the manifest, {found} in the index"
    kept = counts.published + counts.quarantined + counts.dropped + counts.carried + counts.filtered
    if counts.read + counts.padded != kept:
        yield (
            "lineage does not add up: read + padded = published + quarantined + dropped + carried + filtered fails for "
            f"{counts!r}"
        )
    if counts.published != sum(split.samples for split in splits.values()):
        yield f"lineage counts {counts.published} published samples, the splits hold {sum(s.samples for s in splits.values())}"
