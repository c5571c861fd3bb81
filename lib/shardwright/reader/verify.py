"""Comparing a version on storage with what was published: every file, byte, count and place, without Spark."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.errors import CorruptError, ShardwrightError, StorageError
from shardwright.format import layout
from shardwright.format.manifest import FileDigest, Manifest
from shardwright.reader.open import read_index, read_manifest
from shardwright.reader.verify_part import PartRows, check_part
from shardwright.storage import Storage, open_storage

_PIECE_BYTES = 8 * 2**20
Progress = Callable[[int, int], None]
"""Called after each file: how many are done, and how many there are."""


@dataclass
class Report:
    """What was looked at, and everything that is wrong with it."""

    url: str
    version: str = "?"
    files: int = 0
    bytes: int = 0
    samples: int = 0
    problems: list[str] = field(default_factory=list)


def verify(url: str, *, version: str = "latest", progress: Progress = lambda _done, _files: None) -> Report:
    """Compare all of a version with its manifest and index, and list every problem found.

    Raises DatasetNotFoundError when there is no such dataset or version, StorageError when the file system refuses.
    """
    storage = open_storage(url)
    report = Report(storage.url)
    try:
        report.version, manifest = read_manifest(storage, version)
        index = read_index(storage, report.version, manifest)
    except CorruptError as error:
        report.problems.append(str(error))  # without these two nothing else can be judged
        return report
    _Verification(storage, manifest, index, report, progress).run()
    return report


class _Verification:
    def __init__(self, storage: Storage, manifest: Manifest, index: pa.Table, report: Report, progress: Progress) -> None:
        self._storage, self._manifest, self._report, self._progress = storage, manifest, report, progress
        self._rows = [PartRows(rows) for rows in _by_part(index)]
        self._expected: dict[str, FileDigest] = {}

    def run(self) -> None:
        self._problems(_check_totals(self._manifest, self._rows))
        self._list_expected()
        for name in sorted(self._expected):
            self._check_file(self._expected[name])
        for part in self._rows:
            if not any(problem.startswith(f"{part.name}: ") for problem in self._report.problems):
                self._guarded(part.name, lambda part=part: self._check_part(part))  # type: ignore[misc]
        self._check_sums()
        self._check_quarantine()
        self._check_strays()
        self._report.samples = sum(part.samples for part in self._rows)

    def _list_expected(self) -> None:
        for name, split in self._manifest.content.splits.items():
            self._expected[split.common_metadata.name] = split.common_metadata
            if split.common_metadata.name != f"{name}/{layout.COMMON_METADATA}":
                self._problem(f"{name}/{layout.COMMON_METADATA} is not listed in the manifest")
        for part in self._rows:
            self._expected[part.name] = part.digest
            self._expected |= {file.name: file for file in part.side_files}
        for directory in {part.directory for part in self._rows}:
            for file in (layout.SHARD_METADATA, layout.SUMS):
                if f"{directory}/{file}" not in self._expected:
                    self._problem(f"{directory}/{file} is not listed in the index")

    def _check_file(self, expected: FileDigest) -> None:
        """Existence, bytes and sha256."""
        name = expected.name
        try:
            found = self._storage.size(self._full(name))
            if found != expected.bytes:
                self._problem(f"{name}: expected {expected.bytes} bytes, found {found}")
            elif (digest := self._sha256(name, found)) != expected.sha256:
                self._problem(f"{name}: expected sha256 {expected.sha256}, found {digest}")
        except FileNotFoundError:
            self._problem(f"{name}: missing")
        except OSError as error:
            raise StorageError(f"can't read {self._storage.url}/{self._full(name)}: {error}") from error
        self._report.files += 1
        self._report.bytes += expected.bytes
        self._progress(self._report.files, len(self._expected))

    def _sha256(self, name: str, size: int) -> str:
        digest = hashlib.sha256()
        for start in range(0, size, _PIECE_BYTES):
            for piece in self._storage.ranges(self._full(name), [(start, min(start + _PIECE_BYTES, size))]):
                digest.update(piece)
        return digest.hexdigest()

    def _check_part(self, part: PartRows) -> None:
        read = _reader(self._storage, self._full(part.name))
        self._problems(check_part(part, self._manifest.content.dataset_schema, read, self._side_file))

    def _side_file(self, name: str) -> bytes | None:
        return self._storage.read(self._full(name)) if name in self._expected else None

    def _check_sums(self) -> None:
        """The lines of each shard's checksum file."""
        listed: dict[str, dict[str, str]] = defaultdict(dict)
        for part in self._rows:
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
        for name in self._names(layout.QUARANTINE):
            full = f"{layout.QUARANTINE}/{name}"
            try:
                rows += pq.read_metadata(pa.BufferReader(self._storage.read(self._full(full)))).num_rows
            except (pa.ArrowException, OSError, ValueError) as error:
                self._problem(f"{full}: not a Parquet file ({error})")
        expected = self._manifest.lineage.counts.quarantined
        if rows != expected:
            self._problem(f"{layout.QUARANTINE}: the manifest counts {expected} rejected samples, its files hold {rows}")

    def _check_strays(self) -> None:
        """Files that nobody published."""
        splits = set(self._manifest.content.splits)
        directories = {part.directory for part in self._rows}
        known = {layout.MANIFEST, self._manifest.content.index.name, layout.QUARANTINE} | splits
        known |= {name for file in self._expected for name in (file, file.rpartition("/")[0])}
        for directory in ["", *sorted(splits), *sorted(directories)]:
            for name in self._names(directory):
                full = f"{directory}/{name}" if directory else name
                if full not in known:
                    self._problem(f"{full}: nobody published this file")

    def _guarded(self, name: str, check: Callable[[], None]) -> None:
        """A check of a file that may be missing or damaged, which is a problem like any other."""
        try:
            check()
        except (ShardwrightError, OSError, pa.ArrowException) as error:
            line = f"{name}: {error}"
            if not any(problem.startswith(f"{name}: ") for problem in self._report.problems):
                self._problem(line)

    def _names(self, directory: str) -> list[str]:
        return self._storage.names(self._full(directory) if directory else self._report.version)

    def _full(self, name: str) -> str:
        return f"{self._report.version}/{name}"

    def _problem(self, problem: str) -> None:
        self._report.problems.append(problem)

    def _problems(self, problems: Iterable[str]) -> None:
        self._report.problems.extend(problems)


def _by_part(index: pa.Table) -> Iterator[list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    for row in index.to_pylist():
        if rows and rows[-1]["part"] != row["part"]:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


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
    if counts.read + counts.padded != counts.published + counts.quarantined + counts.dropped:
        yield f"lineage does not add up: read + padded = published + quarantined + dropped fails for {counts!r}"
    if counts.published != sum(split.samples for split in splits.values()):
        yield f"lineage counts {counts.published} published samples, the splits hold {sum(s.samples for s in splits.values())}"


def _reader(storage: Storage, name: str) -> Callable[[int, int], bytes]:
    return lambda start, stop: storage.ranges(name, [(start, stop)])[0]
