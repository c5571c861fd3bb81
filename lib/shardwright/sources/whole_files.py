"""Formats in which a file is one sample: any file as bytes, and what pictures, texts and arrays share with that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from shardwright.schema import Schema
from shardwright.sources.base import BATCH_BYTES, MAX_VALUE_BYTES, REJECT, Decoded, InputFile, Task
from shardwright.sources.columns import Asked, Declaration, declare
from shardwright.sources.files import check_unique_names, pack_files
from shardwright.sources.inputs import read_inputs


class Decoder(Protocol):
    """What becomes of files: columns by name, a value for each file, and maybe `REJECT`."""

    def __call__(self, files: Sequence[InputFile], contents: pa.Array) -> Mapping[str, pa.Array]:
        """Columns of these files; `contents` is binary, their bytes as they are."""


@dataclass
class WholeFiles(Decoded):
    """One sample a file, of the columns that `decoder` makes."""

    schema: Schema
    files: tuple[InputFile, ...]
    decoder: Decoder
    names: Mapping[str, str]
    """The column of each field."""
    sample_per_file: bool = field(default=True, init=False)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel without the files: a task names its own, and a list of millions would go to every executor."""
        return type(self), (self.schema, (), self.decoder, self.names)

    def tasks(self, task_bytes: int) -> list[Task]:
        """Files in order, packed to about `task_bytes`."""
        return pack_files(self.files, task_bytes)

    def read(self, task: Task) -> Iterator[pa.RecordBatch]:
        """The samples of a task's files. Raises InputError for one that can't be read, or was changed since it was found."""
        for files in _batches(task.files):
            too_large = [file.bytes > MAX_VALUE_BYTES for file in files]
            read = iter(read_inputs([file for file, large in zip(files, too_large, strict=True) if not large]))
            contents = [b"" if large else next(read) for large in too_large]
            columns = self.decoder(files, pa.array(contents, pa.binary()))
            out = {name: columns[self.names[name]] for name in self.schema.names}
            out["_source"] = pa.array([file.name for file in files], pa.string())
            if REJECT in columns or any(too_large):
                limit = f"expected a file of at most {MAX_VALUE_BYTES} bytes"
                reasons = [f"{limit}, found {f.bytes}" if large else None for f, large in zip(files, too_large, strict=True)]
                out[REJECT] = pc.coalesce(
                    pa.array(reasons, pa.string()), columns.get(REJECT, pa.nulls(len(files), pa.string()))
                )
            yield pa.RecordBatch.from_pydict(out)


@dataclass(frozen=True)
class AnyFile:
    """A file as it is."""

    def __call__(self, files: Sequence[InputFile], contents: pa.Array) -> Mapping[str, pa.Array]:
        """`data` and `path`."""
        return {"data": contents, "path": pa.array([file.name for file in files], pa.string())}


def open_any_files(files: Sequence[InputFile], asked: Asked) -> WholeFiles:
    """Every file is a sample: `data` (its bytes) and `path` (its name relative to the root).

    Raises what `open_whole` raises.
    """
    inferred: dict[str, Declaration] = {"data": {"dtype": "bytes"}, "path": {"dtype": "string"}}
    return open_whole(files, AnyFile(), inferred, asked)


def open_whole(files: Sequence[InputFile], decoder: Decoder, inferred: Mapping[str, Declaration], asked: Asked) -> WholeFiles:
    """Files as samples, of the columns `inferred` that `decoder` makes of them.

    Raises InputError for one name under two roots, SchemaError for fields that can't be.
    """
    check_unique_names(files)
    where = files[0].path
    schema = declare(asked.renamed(inferred, where=where), asked, where=where)
    return WholeFiles(schema, tuple(files), decoder, {name: asked.column(name) for name in schema.names})


def _batches(files: Sequence[InputFile]) -> Iterator[Sequence[InputFile]]:
    """About `BATCH_BYTES` of files; a larger one is alone."""
    start = size = 0
    for number, file in enumerate(files):
        if number > start and size + file.bytes > BATCH_BYTES:
            yield files[start:number]
            start, size = number, 0
        size += file.bytes
    if files:
        yield files[start:]
