"""What a dataset of another system is, what is wrong with it, and what migration would make of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shardwright.cli.output import Finding
from shardwright.errors import ConfigError, CorruptError, InputError, SchemaError, ShardwrightError, UnsafeMetadataError
from shardwright.format.unischema import CommonMetadata, StoredField, read_common_metadata
from shardwright.petastorm.files import Files, open_files
from shardwright.petastorm.store import COMMON_METADATA, Store, data_files
from shardwright.schema import Field
from shardwright.sources import open_source
from shardwright.sources.detect import Kind, detect

_SHOWN = 3


@dataclass
class Diagnosis:
    """Of the dataset at `url`; `findings` holds what is wrong and what is not."""

    url: str
    kind: Kind
    about: str
    """In words: what it is, of what size."""
    findings: list[Finding] = field(default_factory=list)
    fields: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, what it is, and what it becomes."""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return all(one.level != "problem" for one in self.findings)

    @property
    def command(self) -> str:
        """What migrates it."""
        return f"./spark-submit.sh jobs/migrate.py {self.url} --output NEW --shards NODES"


def diagnose(url: str, ranks: int) -> Diagnosis:
    """Look at all metadata and footers, at no data; `ranks` is how many trainers would share it.

    Raises InputError for what is no dataset, StorageError where it can't be read.
    """
    files = open_files(url.rstrip("/"))
    names = sorted(files.listing())
    if COMMON_METADATA in names:
        return _petastorm(url, files, names, ranks)
    kind = detect(url)
    if kind == "shardwright":
        return Diagnosis(url, kind, "a dataset of shardwright: `shardwright verify` checks it")
    if kind == "parquet":
        found = Diagnosis(url, kind, "")
        store = Store(files=files, names=tuple(data_files(names)), hive=True, common=None)
        _look_at_row_groups(found, store, ranks, "Parquet files")
        _migrated_fields(found, ())
        return found
    found = Diagnosis(url, kind, f"{'WebDataset tars' if kind == 'webdataset' else 'MDS of MosaicML'}, {len(names):,} files")
    _migrated_fields(found, ())
    return found


def _petastorm(url: str, files: Files, names: Sequence[str], ranks: int) -> Diagnosis:
    found = Diagnosis(url, "petastorm", "a dataset of Petastorm")
    try:
        common = read_common_metadata(files.read(COMMON_METADATA))
    except UnsafeMetadataError as error:
        told = f"a pickle that is no schema: {_first_sentence(error)}"
        advice = "do not open it with stock Petastorm, which runs it; ask who wrote it"
        found.findings.append(Finding("problem", COMMON_METADATA, told, advice))
        return found
    except CorruptError as error:
        found.findings.append(Finding("problem", COMMON_METADATA, str(error), "write it anew: materialize_dataset"))
        return found
    if common.unischema is None:
        found.kind, found.about = "parquet", "Parquet files with a _common_metadata that has no Unischema"
        advice = "stock make_reader fails on it; take the file away, or write it anew by materialize_dataset"
        found.findings.append(Finding("problem", COMMON_METADATA, "lacks the schema", advice))
    store = Store(files=files, names=tuple(sorted(data_files(names, common.row_groups))), hive=True, common=None)
    found.findings += _of_files(common, store)
    what = f"Petastorm, schema {common.unischema.name!r}" if common.unischema else found.about
    _look_at_row_groups(found, store, ranks, what)
    _migrated_fields(found, common.unischema.fields if common.unischema else ())
    return found


def _of_files(common: CommonMetadata, store: Store) -> Iterator[Finding]:
    """Whether the metadata knows the files that are there, and only those."""
    known = common.row_groups
    if known is None:
        advice = "stock Petastorm fails on it; migrate it"
        yield Finding("problem", COMMON_METADATA, "lacks the row groups of the files", advice)
        return
    unknown, gone = sorted(set(store.names) - set(known)), sorted(set(known) - set(store.names))
    if unknown:
        advice = "stock Petastorm fails on them; they were written after the metadata: materialize_dataset writes it anew"
        yield Finding("problem", "files", f"{_some(unknown)} not in {COMMON_METADATA}", advice)
    if gone:
        advice = "bring them back, or accept that they are lost"
        yield Finding("problem", "files", f"{_some(gone)} in {COMMON_METADATA} but not there", advice)
    if not (unknown or gone):
        yield Finding("ok", "files", f"{len(known):,}, all in {COMMON_METADATA}")


def _look_at_row_groups(found: Diagnosis, store: Store, ranks: int, what: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = store.rows_of(store.pieces)
    except InputError as error:
        found.findings.append(Finding("problem", "files", str(error), "copy the file again from where it came"))
        return
    found.about = f"{what}: {len(store.names):,} files, {len(rows):,} row groups, {sum(rows):,} rows"
    if empty := rows.count(0):
        advice = "stock make_reader divides by zero there; migration leaves them out"
        found.findings.append(Finding("problem", "row groups", f"{empty:,} without a row", advice))
    found.findings.append(_of_shards(rows, ranks))


def _of_shards(rows: Sequence[int], ranks: int) -> Finding:
    """How even a dataset is as stock Petastorm shards it: row group i goes to rank i mod `ranks`."""
    about = f"{ranks} ranks"
    if len(rows) < ranks:
        advice = "stock Petastorm refuses so many shards; migrate it, or read with shard_policy='samples'"
        return Finding("problem", about, f"only {len(rows):,} row groups", advice)
    shares = [sum(rows[rank::ranks]) for rank in range(ranks)]
    if min(shares) == max(shares):
        return Finding("ok", about, f"{shares[0]:,} rows each")
    advice = (
        "ranks with fewer rows leave the others waiting at an epoch's end; migrate it, or read it with shard_policy='samples'"
    )
    told = f"from {min(shares):,} to {max(shares):,} rows, as row groups are dealt out"
    return Finding("problem", about, told, advice)


def _migrated_fields(found: Diagnosis, stored: Sequence[StoredField]) -> None:
    try:
        schema = open_source(found.kind, found.url).schema
    except (SchemaError, ConfigError, InputError) as error:
        found.findings.append(Finding("problem", "migration", str(error)))
        return
    except ShardwrightError as error:
        found.findings.append(Finding("problem", "fields", str(error)))
        return
    was = {one.name: _described(one) for one in stored}
    found.fields = [(one.name, was.get(one.name, ""), _form(one)) for one in schema]


def _described(one: StoredField) -> str:
    codec = one.codec
    how = ""
    if codec is not None:
        how = f"{codec.image_format} picture" if codec.kind == "image" else codec.spark_type or codec.kind
    words = [one.dtype, str(one.shape) if one.shape else "", how, "nullable" if one.nullable else ""]
    return " ".join(filter(None, words))


def _form(one: Field) -> str:
    kind = "picture, " if one.is_image else ""
    return f"{kind}{one.dtype}{f' {one.shape}' if one.shape else ''}{' nullable' if one.nullable else ''}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{len(names):,} ({', '.join(names[:_SHOWN])}{more})"


def _first_sentence(error: Exception) -> str:
    return str(error).removeprefix("the pickled metadata has ").split(": ")[0]
