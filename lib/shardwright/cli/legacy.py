"""What `check` finds out about a dataset of another system: what it is, whether it is sound, and what its fields become here.

Metadata and footers are read, no row. Nothing that was pickled is run.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardwright.cli.output import Finding
from shardwright.cli.row_groups import row_group_findings
from shardwright.codecs.npy import show_shape
from shardwright.errors import InputError, ShardwrightError, UnsafeMetadataError
from shardwright.format.common_metadata import ROW_GROUPS_KEY, UNISCHEMA_KEY, CommonMetadata, read_common_metadata
from shardwright.format.layout import COMMON_METADATA
from shardwright.format.unischema import StoredField, StoredUnischema, parse_unischema
from shardwright.schema import Field
from shardwright.sources import FORMATS, open_source
from shardwright.sources.base import InputFile
from shardwright.sources.files import find_files
from shardwright.sources.inputs import read_beside, read_input
from shardwright.sources.look import MDS_INDEX, Kind, find_kind, mds_shards
from shardwright.sources.parquet import declared_fields, read_footers
from shardwright.sources.petastorm import field_form

_SHOWN = 5
_KINDS: dict[Kind, str] = {
    "petastorm": "a Petastorm dataset",
    "parquet": "plain Parquet",
    "webdataset": "WebDataset tar files",
    "mds": "MosaicML MDS shards",
    "shardwright": "a dataset of shardwright",
}


@dataclass(frozen=True)
class NewField:
    """A field: what it is there, and what it becomes; no `after` where it can't be one."""

    name: str
    before: str
    after: str
    note: str = ""


@dataclass
class Legacy:
    """A dataset of another system."""

    url: str
    kind: Kind
    files: int = 0
    bytes: int = 0
    rows: int | None = None
    row_groups: int | None = None
    findings: list[Finding] = field(default_factory=list)
    fields: list[NewField] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    """What `jobs/migrate.py` has to be told of it."""

    @property
    def described(self) -> str:
        """What it is, in words."""
        return _KINDS[self.kind]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return all(finding.level != "problem" for finding in self.findings)


def examine(url: str, *, ranks: int | None = None) -> Legacy:
    """Look at the dataset at `url`; `ranks` says how many are to read its row groups.

    Raises InputError for what is none, StorageError where it can't be looked at.
    """
    found = Legacy(url, find_kind(url))
    if found.kind == "shardwright":
        return found
    files = find_files(url)
    found.files, found.bytes = len(files), sum(file.bytes for file in files)
    if found.kind in ("petastorm", "parquet"):
        _parquet(found, files, ranks)
    else:
        _other(found, files)
    return found


def _parquet(found: Legacy, files: Sequence[InputFile], ranks: int | None) -> None:
    footers: dict[InputFile, pq.FileMetaData] = {}
    for file, footer in read_footers(files).items():
        if isinstance(footer, InputError):
            found.findings.append(Finding("problem", file.name, str(footer), "restore the file, or remove it"))
        else:
            footers[file] = footer
    found.rows = sum(footer.num_rows for footer in footers.values())
    found.row_groups = sum(footer.num_row_groups for footer in footers.values())
    metadata = _metadata(found, files) if found.kind == "petastorm" else None
    counts = {
        file.name: [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for file, footer in footers.items()
    }
    found.findings += row_group_findings(counts, metadata.row_groups if metadata else None, ranks)
    if not footers:
        return
    first = next((file for file in footers if footers[file].num_rows), next(iter(footers)))
    columns = {column.name: column.type for column in footers[first].schema.to_arrow_schema()}
    found.findings += _other_columns(first, footers)
    unischema = _unischema(found, metadata) if metadata else None
    if unischema:
        _petastorm_fields(found, unischema, columns, first)
    else:
        found.options += ["--format parquet"] if found.kind == "petastorm" else []
        _source_fields(found, "parquet", {name: str(kind) for name, kind in columns.items()}, declared_fields(footers.values()))


def _metadata(found: Legacy, files: Sequence[InputFile]) -> CommonMetadata | None:
    advice = "have it written anew by `petastorm-generate-metadata.py`; without it the dataset is plain Parquet"
    path, data = next(filter(None, (read_beside(file, COMMON_METADATA) for file in files)))
    try:
        metadata = read_common_metadata(data, path)
    except (InputError, UnsafeMetadataError) as error:
        found.findings.append(Finding("problem", COMMON_METADATA, str(error), advice))
        return None
    if metadata.unischema is None:
        found.findings.append(
            Finding(
                "warning", COMMON_METADATA, f"no key {UNISCHEMA_KEY}: stock Petastorm reads plain columns", "migrate as Parquet"
            )
        )
    if metadata.row_groups is None:
        told = f"no key {ROW_GROUPS_KEY}: stock Petastorm refuses the dataset"
        found.findings.append(Finding("problem", COMMON_METADATA, told, advice))
    return metadata


def _unischema(found: Legacy, metadata: CommonMetadata) -> StoredUnischema | None:
    if metadata.unischema is None:
        return None
    try:
        unischema = parse_unischema(metadata.unischema)
    except UnsafeMetadataError as error:
        found.findings.append(Finding("problem", COMMON_METADATA, str(error)))
        return None
    found.findings.append(Finding("ok", COMMON_METADATA, f"Unischema {unischema.name!a} of {len(unischema.fields)} fields"))
    return unischema


def _other_columns(first: InputFile, footers: dict[InputFile, pq.FileMetaData]) -> Iterator[Finding]:
    schema = footers[first].schema.to_arrow_schema()
    kinds = {column.name: column.type for column in schema}
    differ = [
        file.name
        for file, footer in footers.items()
        if {column.name: column.type for column in footer.schema.to_arrow_schema()} != kinds
    ]
    if differ:
        yield Finding(
            "problem", f"{len(differ)} files", f"other columns or types than {first.name}: {_some(differ)}",
            "declare one dtype for both by --set read.fields.NAME.dtype=…, or write them anew",
        )  # fmt: skip


def _petastorm_fields(found: Legacy, unischema: StoredUnischema, columns: dict[str, pa.DataType], first: InputFile) -> None:
    for stored in unischema.fields:
        form = field_form(stored, columns, first)
        after = "" if form.refused else _declared(form.declared)
        found.fields.append(NewField(stored.name, _stored(stored), after, form.note))
        if form.refused:
            found.findings.append(
                Finding("problem", f"field {stored.name!a}", f"can't be one here: {form.refused}", "leave it out")
            )
    good = [new.name for new in found.fields if new.after]
    found.options += [f"--columns {shlex.quote(','.join(good))}"] if len(good) < len(found.fields) else []
    named = {stored.name for stored in unischema.fields}
    if unnamed := [name for name in columns if name not in named]:
        found.findings.append(
            Finding(
                "warning", f"{len(unnamed)} columns", f"not in the Unischema, so left out: {_some(unnamed)}", "--format parquet"
            )
        )
    try:
        open_source("petastorm", found.url, columns=good)
    except ShardwrightError as error:
        found.findings.append(Finding("problem", "fields", str(error)))


def _source_fields(found: Legacy, kind: str, before: dict[str, str], declared: dict[str, dict[str, object]]) -> None:
    try:
        schema = open_source(kind, found.url, fields=declared).schema
    except ShardwrightError as error:
        found.findings.append(Finding("problem", "fields", str(error)))
    else:
        found.fields += [NewField(new.name, before.get(new.name, ""), _here(new)) for new in schema]


def _other(found: Legacy, files: Sequence[InputFile]) -> None:
    if found.kind == "mds":
        _mds(found, files)
    for file in files:
        if not file.bytes:
            found.findings.append(Finding("problem", file.name, "an empty file", "remove it, or write it anew"))
    if found.kind in FORMATS:
        _source_fields(found, found.kind, {}, {})


def _mds(found: Legacy, files: Sequence[InputFile]) -> None:
    """The shards that the indexes list, and whether their files are there."""
    sizes = {file.name: file.bytes for file in files}
    found.rows = 0
    for file in files:
        folder, _, name = file.name.rpartition("/")
        shards = mds_shards(read_input(file)) if name == MDS_INDEX else None
        for shard in shards or ():
            samples = shard.get("samples")
            found.rows += samples if isinstance(samples, int) else 0
            stored = [entry for key in ("raw_data", "zip_data") if isinstance(entry := shard.get(key), dict)]
            if not any(sizes.get(f"{folder}/{entry.get('basename')}".lstrip("/")) == entry.get("bytes") for entry in stored):
                names = ", ".join(str(entry.get("basename"))[:80] for entry in stored)
                found.findings.append(
                    Finding("problem", file.name, f"lists {names}, which is not there in that size", "copy it again")
                )


def _stored(field: StoredField) -> str:
    codec = field.codec
    how = "no codec" if codec is None else codec.spark_type or codec.image_format or codec.kind
    shape = f" {show_shape(field.shape)}" if field.shape else ""
    return f"{field.dtype}{shape} ({how}{', nullable' if field.nullable else ''})"


def _declared(declared: Mapping[str, Any]) -> str:
    if "dtype" not in declared:
        return "what the names of folders look like"
    return _here(Field.model_validate({**declared, "name": "x"}))


def _here(field: Field) -> str:
    shape = f" {show_shape(field.shape)}" if field.shape else ""
    return f"{'picture of ' if field.is_image else ''}{field.dtype}{shape}{' or null' if field.nullable else ''}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{name[:80]!a}" for name in names[:_SHOWN]) + more
