"""WebDataset tar files; a piece is a file. The names of members say what they are part of: `format.webdataset`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator

from shardwright.format.webdataset import KEY, extensions_of
from shardwright.sources.base import AT, BATCH_BYTES, MAX_VALUE_BYTES, REJECT, InputFile, Reader, Source
from shardwright.sources.columns import Asked, Declaration, parse_texts
from shardwright.sources.exported import declaration, exported_fields
from shardwright.sources.files import select_files
from shardwright.sources.tables import open_tables
from shardwright.sources.tar import Member, open_tar
from shardwright.sources.webdataset_columns import Column, grouped, known_of, look

_NAME = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz)$", re.IGNORECASE)

_SAMPLE_BYTES = 512
"""What a sample takes in memory beside its contents and its key."""


class WebDatasetOptions(BaseModel):
    """Keys of ``[read.options]`` of the format ``webdataset``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: dict[str, str] = {}
    """The extension of each column's members, or several: `{ image = "jpg;png", label = "cls" }`; the first that is there."""

    @field_validator("members")
    @classmethod
    def _check_members(cls, members: dict[str, str]) -> dict[str, str]:
        for name, extensions in members.items():
            if not all(extensions.split(";")):
                raise ValueError(f"{name}: expected extensions such as 'jpg;png', found {extensions!r}")
        return members


class WebDatasetReader(Reader):
    """The members of samples as columns, and their keys where `__key__` is given another name.

    What they are says, in this order: the option `members`, the file `_features.json` that an export writes beside its files,
    or the first samples of the first file.
    """

    def __init__(self, options: WebDatasetOptions, asked: Asked) -> None:
        self._members = {name: tuple(text.lower().split(";")) for name, text in options.members.items()}
        self._asked = asked
        self._columns: dict[str, Column] = {}
        self._guessed = False

    def schema(self, file: InputFile) -> pa.Schema:
        """The columns, which are looked for in the first file alone."""
        if not self._columns:
            self._columns = self._find(file)
        columns = {name: column.kind for name, column in self._columns.items()}
        if KEY in self._asked.rename.values():
            columns[KEY] = pa.string()
        return pa.schema(list(columns.items()))

    def fields(self) -> Mapping[str, Declaration]:
        """What extensions, the first arrays, or an export say."""
        return {name: column.known for name, column in self._columns.items() if column.known}

    def read(
        self,
        file: InputFile,
        units: range,  # noqa: ARG002 - a file is one piece
        columns: Sequence[str],
    ) -> Iterator[pa.RecordBatch]:
        """The samples of a file. Raises InputError for a damaged one; links, and what is no value of its type, make one bad."""
        own = {name: self._columns[name] for name in columns if name != KEY}
        wanted = frozenset(extension for column in own.values() for extension in column.extensions)
        known = frozenset(self._columns) if self._guessed else None
        with open_tar(file) as members:
            for samples in _batches(_samples(members, wanted, known)):
                yield _batch(samples, own)

    def _find(self, file: InputFile) -> dict[str, Column]:
        declared = self._asked.by_column()
        exported = None if self._members else exported_fields(file, instead="declare the option `members`")
        if exported is not None:
            known = {one.name: {**declaration(one), **declared.get(one.name, {})} for one in exported}
            return {one.name: Column.of(extensions_of(one), known[one.name]) for one in exported}
        heads = look(file)
        self._guessed = not self._members
        members = self._members or {extension: (extension,) for extension in sorted(heads)}
        out = {}
        for name, extensions in members.items():
            known_here = declared.get(name, {})
            if self._asked.columns is None or self._asked.names([name])[0] in self._asked.columns:
                known_here = known_of(file, extensions, heads, known_here)
            out[name] = Column.of(extensions, known_here)
        return out


def open_webdataset(files: Sequence[InputFile], asked: Asked, options: WebDatasetOptions) -> Source:
    """The tar files among `files`. Raises InputError where there is none, and what `open_tables` raises."""
    usable = select_files(files, lambda file: bool(_NAME.search(file.name)), expected="tar files (.tar, .tar.gz, .tgz, …)")
    return open_tables(WebDatasetReader(options, asked), usable, asked, expected="tar files")


@dataclass
class _Sample:
    """Members of one key that lie side by side; of those that are wanted, the content."""

    key: str
    contents: dict[str, bytes] = field(default_factory=dict)
    bytes: int = 0
    reason: str | None = None

    def add(self, extension: str, member: Member) -> None:
        """Take a member that is wanted, unless the sample is bad already."""
        if extension in self.contents:
            self.reason = f"two members with the extension {extension!r}"
        elif member.problem:
            self.reason = f"member {extension!r}: {member.problem}"
        elif self.bytes + member.size > MAX_VALUE_BYTES:
            self.reason = f"expected at most {MAX_VALUE_BYTES} bytes in all members together, found more"
        else:
            self.contents[extension] = member.read()
            self.bytes += member.size


def _samples(members: Iterable[Member], wanted: frozenset[str], known: frozenset[str] | None) -> Iterator[_Sample]:
    for key, named in grouped(members):
        sample = _Sample(key)
        for _, extension, member in named:
            if sample.reason:
                continue
            if known is not None and extension not in known:
                sample.reason = (
                    f"a member {extension!r}, which the first samples do not have; name those to read by the option `members`"
                )
            elif extension in wanted:
                sample.add(extension, member)
        yield sample


def _batches(samples: Iterable[_Sample]) -> Iterator[list[_Sample]]:
    batch: list[_Sample] = []
    size = 0
    for sample in samples:
        batch.append(sample)
        size += sample.bytes + len(sample.key) + _SAMPLE_BYTES
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _batch(samples: Sequence[_Sample], columns: Mapping[str, Column]) -> pa.RecordBatch:
    reasons = [sample.reason for sample in samples]
    arrays = {KEY: pa.array([sample.key for sample in samples], pa.string())}
    for name, column in columns.items():
        values = [next((s.contents[e] for e in column.extensions if e in s.contents), None) for s in samples]
        if pa.types.is_binary(column.kind):
            arrays[name] = pa.array(values, pa.binary())
            continue
        parsed, bad = parse_texts(values, column.parsed)
        arrays[name] = parsed.cast(column.kind)
        for row, reason in bad.items():
            reasons[row] = reasons[row] or f"member {column.extensions[0]!r}: {reason}"
    arrays[AT] = pa.array([f"#{sample.key}" for sample in samples], pa.string())
    arrays[REJECT] = pa.array(reasons, pa.string())
    return pa.RecordBatch.from_pydict(arrays)
