"""Raw input formats: files of rows (Parquet and the like), arrays, folders of pictures, and formats of a team's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from shardwright.errors import ConfigError, MissingDependencyError
from shardwright.schema import suggest
from shardwright.sources.base import InputFile, Reader, Source, Task
from shardwright.sources.columns import Declaration
from shardwright.sources.files import Paths, find_files
from shardwright.sources.idx import open_idx
from shardwright.sources.images import open_images
from shardwright.sources.tables import open_tables

_T = TypeVar("_T")

__all__ = ["FORMATS", "InputFile", "Reader", "Source", "Task", "check_format", "open_source"]

_OPENERS: dict[str, Callable[..., Source]] = {"idx": open_idx, "images": open_images}
"""Formats that cut their input themselves: called with the files, `fields`, `columns` and the options."""
_READERS: dict[str, str] = {"parquet": "shardwright.sources.parquet:ParquetReader"}
"""Formats of rows: the `Reader` of each, imported on use."""
FORMATS = tuple(sorted((*_OPENERS, *_READERS)))
"""The names of the formats."""


def open_source(
    format: str,  # noqa: A002 - its name in the configuration
    paths: Paths,
    *,
    fields: Mapping[str, Declaration] | None = None,
    columns: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Find the files of an input and look at their headers.

    `format` is one of `FORMATS`, or names a `Reader` as "pkg.mod:Class". `fields` declares dtype, shape, codec and nullability
    of fields by name, over what the format says; `columns` names the only fields to read, in that order; `options` are the
    format's own.

    Raises ConfigError for an unknown format or option, InputError for files that are not what they claim to be,
    InputNotFoundError where there is nothing to read, SchemaError for fields that can't be.
    """
    check_format(format)
    given = dict(options or {})
    if format in _OPENERS:
        opener = _OPENERS[format]
        return _with_options(format, lambda: opener(find_files(paths), fields=fields, columns=columns, **given))
    reader = _with_options(format, lambda: _load(_READERS.get(format, format))(**given))
    return open_tables(reader, find_files(paths), expected=f"{format} files", fields=fields, columns=columns)


def check_format(format: str) -> None:  # noqa: A002
    """Raise ConfigError unless `format` is known, or looks like "pkg.mod:Class"."""
    if format in FORMATS:
        return
    module, colon, name = format.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ConfigError([f'no input format {format!r}; {suggest(format, FORMATS)}, or your own reader as "pkg.mod:Class"'])


def _load(target: str) -> Callable[..., Reader]:
    module, _, name = target.partition(":")
    try:
        found: Callable[..., Reader] = getattr(importlib.import_module(module), name)
    except MissingDependencyError:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            [f"read.format {target!r}: can't be imported ({error}); is the module on the Python path (--py-files)?"]
        ) from error
    return found


def _with_options(format: str, make: Callable[[], _T]) -> _T:  # noqa: A002
    try:
        return make()
    except ValidationError as error:
        problems = [f"[read.options] {'.'.join(map(str, e['loc']))}: {e['msg']} (format {format!r})" for e in error.errors()]
        raise ConfigError(problems) from error
    except TypeError as error:
        raise ConfigError([f"[read.options] of format {format!r}: {error}"]) from error
