"""MDS datasets of MosaicML Streaming: the shards that an `index.json` beside them lists; a piece is a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from shardwright.errors import InputError
from shardwright.format.mds import INDEX
from shardwright.format.mds_index import Shard, ShardFile, parse_index
from shardwright.sources.base import BATCH_BYTES, REJECT, InputFile, Reader, Source
from shardwright.sources.columns import Asked, Declaration
from shardwright.sources.exported import declaration, exported_fields
from shardwright.sources.file_names import show_names
from shardwright.sources.files import select_files
from shardwright.sources.inputs import folders_of, read_if_there, read_input
from shardwright.sources.mds_columns import Column, known_of
from shardwright.sources.mds_shard import read_shard
from shardwright.sources.tables import open_tables

_LOOKED_AT = 100
"""Samples of the first shard whose arrays say what dtype and shape they have."""
_SAMPLE_BYTES = 128
"""What a sample takes in memory beside its values."""


@dataclass(frozen=True)
class _Entry:
    """A shard, and as which of its files it is stored."""

    shard: Shard
    stored: ShardFile


_Entries = Mapping[str, _Entry]
"""By the paths of files."""


class MdsReader(Reader):
    """The samples of shards; an index has none."""

    def __init__(self, known: Mapping[str, Declaration]) -> None:
        self._known = known
        self._indexes: dict[str, _Entries] = {}

    def __getstate__(self) -> dict[str, object]:
        """Without the indexes, which may be long: where they are needed they are read again."""
        return {"_known": self._known, "_indexes": {}}

    def schema(self, file: InputFile) -> pa.Schema:
        """What the index says of a shard, or of its first one."""
        return pa.schema([(name, column.kind) for name, column in self._columns(self._entry(file).shard).items()])

    def fields(self) -> Mapping[str, Declaration]:
        """What encodings, the first arrays, or an export say."""
        return {name: known for name, known in self._known.items() if known}

    def units(self, file: InputFile) -> Sequence[int]:
        """A shard is one piece."""
        return () if _is_index(file) or not self._entry(file).shard.samples else (file.bytes,)

    def read(
        self,
        file: InputFile,
        units: range,  # noqa: ARG002 - a shard is one piece
        columns: Sequence[str],
    ) -> Iterator[pa.RecordBatch]:
        """The samples of a shard. Raises InputError for a damaged one; what is no value of its encoding is a bad sample."""
        if _is_index(file):
            return
        entry = self._entry(file)
        known = self._columns(entry.shard)
        wanted = [(place, name, known[name]) for place, name in enumerate(known) if name in columns]
        for samples in _batches(read_shard(file, entry.shard, entry.stored), [place for place, _, _ in wanted]):
            reasons: list[str | None] = [None] * len(samples)
            arrays = {}
            for (_, name, column), values in zip(wanted, zip(*samples, strict=True), strict=True):
                arrays[name], bad = column.read(values)
                for row, reason in bad.items():
                    reasons[row] = reasons[row] or f"column {name!r}: {reason}"
            yield pa.RecordBatch.from_pydict({**arrays, REJECT: pa.array(reasons, pa.string())})

    def _columns(self, shard: Shard) -> dict[str, Column]:
        return {name: Column(encoding, self._known.get(name, {})) for name, encoding in shard.columns.items()}

    def _entry(self, file: InputFile) -> _Entry:
        """What the nearest index that lists a file says of it; for an index, its first shard."""
        for folder in folders_of(file):
            if folder not in self._indexes:
                data = read_if_there(f"{folder}/{INDEX}")
                self._indexes[folder] = {} if data is None else _entries(folder, data)
            entries = self._indexes[folder]
            if entries and _is_index(file):
                return next(iter(entries.values()))
            if file.path in entries:
                return entries[file.path]
        raise InputError(f"{file.path}: expected an {INDEX} beside it that lists it, found none; run the job again")


def open_mds(files: Sequence[InputFile], asked: Asked) -> Source:
    """The shards that the indexes among `files` list.

    Raises InputError where there is no index, for one that is none, or lists what is not there, for encodings that no field can
    hold, and what `open_tables` raises.
    """
    listed = _listed(files)
    filled = {file: entry for file, entry in listed.items() if entry.shard.samples}
    if not filled:
        raise InputError(f"{files[0].path}: expected samples, found none in the {len(listed)} shards of its {INDEX}")
    indexes = {f"{folder}/{INDEX}" for file in listed for folder in folders_of(file)}
    usable = select_files(files, lambda file: file in listed or file.path in indexes, expected=f"the shards of {INDEX}")
    return open_tables(MdsReader(_known(filled, asked)), usable, asked, expected="shards")


def _listed(files: Sequence[InputFile]) -> dict[InputFile, _Entry]:
    """The files of all shards that the indexes among `files` list: what is compressed goes first."""
    there = {file.path: file for file in files}
    indexes = [file for file in files if _is_index(file)]
    if not indexes:
        raise InputError(f"expected the {INDEX} of an MDS dataset, found only {show_names([file.path for file in files])}")
    out: dict[InputFile, _Entry] = {}
    for index in indexes:
        folder = index.path.rpartition("/")[0]
        for shard in parse_index(read_input(index), index.path).shards:
            stored = next((one for one in shard.files if f"{folder}/{one.basename}" in there), None)
            if stored is None:
                raise InputError(
                    f"{index.path}: lists {shard.files[0].basename}, which is not among the files found; copy it again, or "
                    "read the whole folder of the index"
                )
            file = there[f"{folder}/{stored.basename}"]
            if file.bytes != stored.bytes:
                raise InputError(
                    f"{file.path}: expected {stored.bytes} bytes, as {index.path} says, found {file.bytes}; copy it again"
                )
            out.setdefault(file, _Entry(shard, stored))
    return out


def _known(listed: Mapping[InputFile, _Entry], asked: Asked) -> dict[str, Declaration]:
    """What is known of the columns of shards; of those that nobody asks for, what is wrong with them does not matter."""
    file, entry = next(iter(listed.items()))
    exported = {one.name: declaration(one) for one in exported_fields(file, instead="declare its fields by read.fields") or ()}
    declared = asked.by_column()
    first = _first_samples(listed)
    known = {}
    for place, (name, encoding) in enumerate(entry.shard.columns.items()):
        own = {**exported.get(name, {}), **declared.get(name, {})}
        wanted = asked.columns is None or asked.names([name])[0] in asked.columns
        known[name] = known_of(name, encoding, [row[place] for row in first], own, file.path) if wanted else own
    return known


def _first_samples(listed: Mapping[InputFile, _Entry]) -> list[list[bytes]]:
    """The values in the first samples of all shards, where an encoding says less of arrays than they do themselves."""
    columns = next(iter(listed.values())).shard.columns
    if not any(encoding.name == "ndarray" and not encoding.shape for encoding in columns.values()):
        return []
    alike = [(file, entry) for file, entry in listed.items() if entry.shard.columns == columns]
    rows = (row for file, entry in alike for row in read_shard(file, entry.shard, entry.stored))
    return list(islice(rows, _LOOKED_AT))


def _is_index(file: InputFile) -> bool:
    return file.name.rpartition("/")[2] == INDEX


def _entries(folder: str, data: bytes) -> _Entries:
    shards = parse_index(data, f"{folder}/{INDEX}").shards
    return {f"{folder}/{stored.basename}": _Entry(shard, stored) for shard in shards for stored in shard.files}


def _batches(samples: Iterator[list[bytes]], places: Sequence[int]) -> Iterator[list[list[bytes]]]:
    """The values of the columns at `places`."""
    batch: list[list[bytes]] = []
    size = 0
    for sample in samples:
        batch.append([sample[place] for place in places])
        size += sum(map(len, batch[-1])) + _SAMPLE_BYTES
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
