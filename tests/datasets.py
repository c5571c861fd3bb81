"""Published datasets from NumPy arrays, without Spark: what the tests of the reading side read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.codecs import decode_value, encode_value
from shardwright.errors import DecodeError
from shardwright.format import layout
from shardwright.format.compression import ZSTD, ColumnCodec
from shardwright.format.index import RowGroup, encode_index
from shardwright.format.manifest import (
    Content,
    Counts,
    FileDigest,
    Lineage,
    Manifest,
    Plan,
    Provenance,
    RemainderPolicy,
    Shard,
    Split,
    Standardisation,
    Statistics,
)
from shardwright.format.part import PartWriter
from shardwright.format.petastorm import common_metadata
from shardwright.format.statistics import FieldStatistics, FieldSummary
from shardwright.hashing import path_keys
from shardwright.schema import Field, Schema

DIGITS = Schema(fields=(Field(name="image", dtype="uint8", shape=(8, 8)), Field(name="label", dtype="int64")))


def digits(samples: int, seed: int = 0) -> dict[str, Any]:
    """Small pictures, and labels that number the samples."""
    images = np.random.default_rng(seed).integers(0, 256, (samples, 8, 8), np.uint8)
    return {"image": images, "label": np.arange(samples)}


def publish(
    root: Path,
    splits: Mapping[str, Mapping[str, Any]],
    schema: Schema = DIGITS,
    *,
    shards: int = 4,
    remainder: RemainderPolicy = "drop",
    part_samples: int = 40,
    row_group_samples: int = 16,
    block_samples: int = 8,
    window_blocks: int = 3,
    compressed: Sequence[str] | Mapping[str, ColumnCodec] = (),
    default: ColumnCodec = ZSTD,
    standardise: Sequence[str] = (),
    version: str = "v000001",
    quarantined: int = 0,
    order_by: tuple[str, ...] = (),
) -> Manifest:
    """Write a version below `root` and point `_LATEST` at it. Sample i of a split has the key of path "<split>/<i>"."""
    chosen = compressed if isinstance(compressed, Mapping) else dict.fromkeys(compressed, ZSTD)
    columns = layout.columns(schema, compressed=chosen, default=default, pad=remainder == "pad")
    base = root / version
    base.mkdir(parents=True)
    groups: list[RowGroup] = []
    totals: dict[str, Split] = {}
    for split, data in sorted(splits.items()):
        written, totals[split] = _write_split(
            base, split, data, schema, columns, shards, remainder, part_samples, row_group_samples
        )
        groups += written
    index = encode_index(groups)
    (base / layout.INDEX).write_bytes(index)
    if quarantined:
        (base / layout.QUARANTINE).mkdir()
        pq.write_table(pa.table({"reason": ["bad"] * quarantined}), base / layout.QUARANTINE / "part-00000.parquet")
    first = min(splits)
    statistics = _statistics(schema, splits[first], totals[first])
    manifest = Manifest.seal(
        Content(
            dataset_schema=schema,
            splits=totals,
            index=FileDigest(name=layout.INDEX, bytes=len(index), sha256=hashlib.sha256(index).hexdigest()),
            statistics=Statistics(split=first, fields=statistics),
            transforms=tuple(
                Standardisation(field=name, mean=statistics[name].mean, std=statistics[name].std) for name in standardise
            ),
            plan=Plan(
                shards=dict.fromkeys(splits, shards), remainder=remainder, seed=0, block_samples=block_samples,
                window_blocks=window_blocks, order="keep" if order_by else "shuffled", order_by=order_by,
            ),
        ),
        Lineage(
            inputs=(), parent=None, counts=_counts(splits, totals, quarantined), configuration_sha256=None, inputs_sha256=None,
            pipeline_version=1,
        ),
        Provenance(created="2026-01-01T00:00:00Z", user="tester", host="here", software={}, configuration={}, seconds={}),
    )  # fmt: skip
    (base / layout.MANIFEST).write_bytes(manifest.to_json())
    (root / layout.LATEST).write_text(json.dumps({"version": version, "content_id": manifest.content_id}))
    return manifest


def shard_rows(samples: int, shards: int, remainder: RemainderPolicy) -> list[list[int]]:
    """Which samples each shard holds: contiguous ranges; 'pad' repeats the first ones at the end."""
    rows = list(range(samples))
    if remainder == "drop":
        rows = rows[: samples - samples % shards]
    if remainder == "pad":
        rows += rows[: -samples % shards]
    each, more = divmod(len(rows), shards)
    begins = [shard * each + min(shard, more) for shard in range(shards + 1)]
    return [rows[begins[shard] : begins[shard + 1]] for shard in range(shards)]


def keys_of(split: str, rows: Sequence[int]) -> np.ndarray:
    """The sample keys of a split's samples, uint8 (n, 16)."""
    return path_keys([f"{split}/{row}" for row in rows])


def _write_split(
    base: Path, split: str, data: Mapping[str, Any], schema: Schema, columns: Sequence[layout.Column], shards: int,
    remainder: RemainderPolicy, part_samples: int, row_group_samples: int,
) -> tuple[list[RowGroup], Split]:  # fmt: skip
    samples = len(next(iter(data.values())))
    held = shard_rows(samples, shards, remainder)
    groups: list[RowGroup] = []
    totals: list[Shard] = []
    row_groups: dict[str, int] = {}
    for shard, rows in enumerate(held):
        directory = f"{split}/{layout.shard_name(shard)}"
        (base / directory).mkdir(parents=True)
        first_padded = len(rows) - max(0, sum(map(len, held[: shard + 1])) - samples)
        parts = [rows[start : start + part_samples] for start in range(0, len(rows), part_samples)]
        written: list[RowGroup] = []
        done = 0
        for part, mine in enumerate(parts):
            padded = [done + row >= first_padded for row in range(len(mine))]
            name = f"{directory}/{layout.part_name(part)}"
            written += _write_part(base, name, part, split, shard, done, mine, padded, data, schema, columns, row_group_samples)
            done += len(mine)
        counts = {Path(g.part).name: sum(other.part == g.part for other in written) for g in written}
        row_groups |= {f"{layout.shard_name(shard)}/{name}": count for name, count in counts.items()}
        written[0] = _with_shard_files(base, directory, written, schema, columns, counts)
        groups += written
        totals.append(Shard(samples=len(rows), parts=len(parts), bytes=sum(g.bytes for g in written if g.row_group == 0)))
    metadata = common_metadata(schema, pa.schema([column.arrow_field for column in columns]), row_groups)
    padded_total = max(0, sum(map(len, held)) - samples)
    return groups, Split(
        samples=sum(map(len, held)), padded=padded_total, shards=tuple(totals),
        common_metadata=_put(base, f"{split}/{layout.COMMON_METADATA}", metadata),
    )  # fmt: skip


def _write_part(
    base: Path, name: str, part: int, split: str, shard: int, first: int, rows: list[int], padded: list[bool],
    data: Mapping[str, Any], schema: Schema, columns: Sequence[layout.Column], row_group_samples: int,
) -> list[RowGroup]:  # fmt: skip
    writer = PartWriter(base / name, columns)
    for start in range(0, len(rows), row_group_samples):
        piece = slice(start, start + row_group_samples)
        writer.write([_column(c, schema, split, data, rows[piece], padded[piece]) for c in columns])
    done = writer.close()
    directory = name.rpartition("/")[0]
    side = tuple(_put(base, f"{directory}/{layout.ranges_name(part, f)}", b) for f, b in sorted(done.ranges.items()))
    firsts = np.cumsum([first, *done.row_group_samples]).tolist()
    return [
        RowGroup(
            split=split, shard=shard, part=name, row_group=number, first_sample=firsts[number], samples=count,
            extents=done.extents[number], bytes=done.size, sha256=done.sha256, side_files=side if number == 0 else (),
        )
        for number, count in enumerate(done.row_group_samples)
    ]  # fmt: skip


def _with_shard_files(
    base: Path, directory: str, groups: list[RowGroup], schema: Schema, columns: Sequence[layout.Column], counts: dict[str, int]
) -> RowGroup:
    arrow = pa.schema([column.arrow_field for column in columns])
    petastorm = _put(base, f"{directory}/{layout.SHARD_METADATA}", common_metadata(schema, arrow, counts))
    digests = {group.part: group.sha256 for group in groups}
    digests |= {file.name: file.sha256 for group in groups for file in group.side_files} | {petastorm.name: petastorm.sha256}
    lines = "".join(f"{digest}  {name.rpartition('/')[2]}\n" for name, digest in sorted(digests.items()))
    sums = _put(base, f"{directory}/{layout.SUMS}", lines.encode())
    return RowGroup(**{**vars(groups[0]), "side_files": (*groups[0].side_files, petastorm, sums)})


def _column(
    column: layout.Column, schema: Schema, split: str, data: Mapping[str, Any], rows: list[int], padded: list[bool]
) -> pa.Array:
    if column.name == layout.KEY:
        return pa.array([key.tobytes() for key in keys_of(split, rows)], column.arrow_type)
    if column.name == layout.PAD:
        return pa.array(padded, column.arrow_type)
    field, values = schema[column.name], [data[column.name][row] for row in rows]
    encoded = field.is_image and all(isinstance(v, bytes | None) for v in values)
    if not field.shape or encoded:
        return pa.array([v.item() if isinstance(v, np.generic) else v for v in values], column.arrow_type)
    return pa.array([None if v is None else encode_value(field, np.asarray(v)) for v in values], column.arrow_type)


def _put(base: Path, name: str, content: bytes) -> FileDigest:
    (base / name).write_bytes(content)
    return FileDigest(name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _statistics(schema: Schema, data: Mapping[str, Any], split: Split) -> dict[str, FieldStatistics]:
    """Of all samples given: near enough for tests of the reading side."""
    out = {}
    for field in schema:
        summary = FieldSummary(field)
        if field.fixed and not field.nullable:
            summary.update(np.asarray(data[field.name], field.numpy_dtype))
        elif not field.shape:
            values = [v.item() if isinstance(v, np.generic) else v for v in data[field.name]]
            summary.update_column(pa.array(values, layout.sample_type(field)))
        elif field.is_image and None not in field.shape and not field.nullable:
            for value in data[field.name]:
                if isinstance(value, np.ndarray) or _decodes(field, value):
                    summary.update((value if isinstance(value, np.ndarray) else decode_value(field, value))[None])
        else:
            summary.add_missing(split.samples)
        out[field.name] = summary.finish()
    return out


def _decodes(field: Field, value: bytes) -> bool:
    try:
        decode_value(field, value)
    except DecodeError:
        return False
    return True


def _counts(splits: Mapping[str, Mapping[str, Any]], totals: Mapping[str, Split], quarantined: int) -> Counts:
    given = sum(len(next(iter(data.values()))) for data in splits.values())
    published = sum(split.samples for split in totals.values())
    padded = sum(split.padded for split in totals.values())
    return Counts(
        read=given + quarantined, padded=padded, published=published, quarantined=quarantined,
        dropped=given + padded - published,
    )  # fmt: skip
