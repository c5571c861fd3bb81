"""From the reports of all parts to the files of a version and its manifest's content. Runs in the driver, without Spark."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa

from shardwright.format.index import RowGroup, encode_index
from shardwright.format.layout import (
    COMMON_METADATA,
    INDEX,
    QUARANTINE,
    SHARD_METADATA,
    SUMS,
    part_name,
    ranges_name,
    shard_name,
)
from shardwright.format.manifest import Compression, Content, FileDigest, Plan, Shard, Split, Statistics, Transform
from shardwright.format.petastorm import common_metadata
from shardwright.spark.encoding import Encoding
from shardwright.spark.writing import PartReport
from shardwright.stages.shard import PartPlan, ShardOptions, ShardPlan

Files = dict[str, str | bytes]
"""Name in the version -> name in the attempt's directory, or the bytes themselves."""

_Part = tuple[PartPlan, PartReport]


class Assembly:
    """Collects the files, row groups and totals of a version, split by split."""

    def __init__(self, encoding: Encoding, options: ShardOptions, plan: ShardPlan, reports: Sequence[PartReport]) -> None:
        self._encoding = encoding
        self._schema = encoding.schema
        self._options = options
        self._plan = plan
        ordered = sorted(reports, key=lambda report: report.number)
        numbers = [report.number for report in ordered]
        if numbers != list(range(len(plan.parts))):
            raise AssertionError(f"expected one report for each of {len(plan.parts)} parts, found {numbers}")
        self._parts: list[_Part] = list(zip(plan.parts, ordered, strict=True))
        self.files: Files = {}
        self._row_groups: list[RowGroup] = []
        self._splits: dict[str, Split] = {}
        for split, parts in groupby(self._parts, key=lambda part: part[0].split):
            self._splits[split] = self._add_split(split, list(parts))

    def add_quarantine(self, names: Sequence[str], directory: str) -> None:
        """Take the rejected samples along."""
        self.files |= {f"{QUARANTINE}/{part_name(number)}": f"{directory}/{name}" for number, name in enumerate(names)}

    def content(
        self, statistics: Statistics, transforms: tuple[Transform, ...], compression: dict[str, Compression]
    ) -> Content:
        """The manifest's content; adds the index to the files."""
        index = encode_index(self._row_groups)
        self.files[INDEX] = index
        return Content(
            dataset_schema=self._schema,
            splits=self._splits,
            index=_digest(INDEX, index),
            statistics=statistics,
            transforms=transforms,
            compression=compression,
            plan=Plan(
                shards={split: len(totals.shards) for split, totals in self._splits.items()},
                remainder=self._options.remainder,
                seed=self._options.seed,
                order=self._options.order,
                order_by=self._options.order_by,
                block_samples=self._block_samples(),
                window_blocks=self._options.window_blocks,
                part_bytes=self._options.part_bytes,
                row_group_bytes=self._options.row_group_bytes,
                block_bytes=self._options.block_bytes,
            ),
        )

    def _block_samples(self) -> int:
        """So many that a mean block has about the bytes that were asked for."""
        reports = [report for _, report in self._parts]
        samples = sum(sum(report.row_group_samples) for report in reports)
        return max(1, self._options.block_bytes * samples // max(sum(report.sample_bytes for report in reports), 1))

    def _add_split(self, split: str, parts: list[_Part]) -> Split:
        layout = self._encoding.layout(pad=bool(self._plan.padded[split]))
        arrow_schema = pa.schema([column.arrow_field for column in layout])
        shards = [
            self._add_shard(f"{split}/{shard_name(shard)}", list(own), arrow_schema)
            for shard, own in groupby(parts, key=lambda part: part[0].shard)
        ]
        counts = {f"{shard_name(plan.shard)}/{part_name(plan.part)}": len(report.row_group_samples) for plan, report in parts}
        metadata = common_metadata(self._schema, arrow_schema, counts)
        name = f"{split}/{COMMON_METADATA}"
        self.files[name] = metadata
        samples = sum(shard.samples for shard in shards)
        return Split(
            samples=samples, padded=self._plan.padded[split], shards=tuple(shards), common_metadata=_digest(name, metadata)
        )

    def _add_shard(self, directory: str, parts: list[_Part], arrow_schema: pa.Schema) -> Shard:
        counts = {part_name(plan.part): len(report.row_group_samples) for plan, report in parts}
        metadata = common_metadata(self._schema, arrow_schema, counts)
        sums = [(SHARD_METADATA, hashlib.sha256(metadata).hexdigest())]
        side_files = []
        for plan, report in parts:
            self.files[f"{directory}/{part_name(plan.part)}"] = f"parts/{report.file}"
            sums.append((part_name(plan.part), report.sha256))
            side_files.append(self._side_files(directory, plan, report, sums))
        sums_text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums)).encode()
        for name, data in ((SHARD_METADATA, metadata), (SUMS, sums_text)):
            self.files[f"{directory}/{name}"] = data
            side_files[0].append(_digest(f"{directory}/{name}", data))
        samples = 0
        for (plan, report), files in zip(parts, side_files, strict=True):
            self._row_groups += _row_groups(directory, plan, report, files, samples)
            samples += sum(report.row_group_samples)
        return Shard(samples=samples, parts=len(parts), bytes=sum(report.bytes for _, report in parts))

    def _side_files(self, directory: str, plan: PartPlan, report: PartReport, sums: list[tuple[str, str]]) -> list[FileDigest]:
        out = []
        for field, (staged, size, sha256) in sorted(report.ranges.items()):
            name = ranges_name(plan.part, field)
            self.files[f"{directory}/{name}"] = f"parts/{staged}"
            sums.append((name, sha256))
            out.append(FileDigest(name=f"{directory}/{name}", bytes=size, sha256=sha256))
        return out


def _row_groups(directory: str, plan: PartPlan, report: PartReport, side_files: list[FileDigest], first: int) -> list[RowGroup]:
    out = []
    for number, (samples, extents) in enumerate(zip(report.row_group_samples, report.extents, strict=True)):
        out.append(
            RowGroup(
                split=plan.split, shard=plan.shard, part=f"{directory}/{part_name(plan.part)}", row_group=number,
                first_sample=first, samples=samples, extents=extents, bytes=report.bytes, sha256=report.sha256,
                side_files=tuple(side_files) if number == 0 else (),
            )
        )  # fmt: skip
        first += samples
    return out


def _digest(name: str, data: bytes) -> FileDigest:
    return FileDigest(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
