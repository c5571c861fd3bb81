"""Raw input formats: IDX files, folders of pictures, Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shardwright.errors import InputError
from shardwright.schema import suggest
from shardwright.sources.base import InputFile, Source, Task
from shardwright.sources.columns import Declaration
from shardwright.sources.files import Paths, find_files
from shardwright.sources.idx import open_idx
from shardwright.sources.images import open_images
from shardwright.sources.parquet import open_parquet

__all__ = ["FORMATS", "InputFile", "Source", "Task", "open_source"]

_OPENERS: dict[str, Callable[..., Source]] = {"idx": open_idx, "images": open_images, "parquet": open_parquet}
FORMATS = tuple(_OPENERS)
"""The names of the formats."""


def open_source(
    format: str,  # noqa: A002 - its name in the configuration
    paths: Paths,
    *,
    fields: Mapping[str, Declaration] | None = None,
    columns: Sequence[str] | None = None,
) -> Source:
    """Find the files of an input and look at their headers.

    `fields` declares dtype, shape, codec and nullability of fields by name, over what the format says; `columns` names the
    only fields to read, in that order.

    Raises InputError for an unknown format and for files that are not what they claim to be, InputNotFoundError where there is
    nothing to read, SchemaError for fields that can't be.
    """
    if format not in _OPENERS:
        raise InputError(f"no input format {format!r}; {suggest(format, FORMATS)}")
    return _OPENERS[format](find_files(paths), fields=fields, columns=columns)
