"""Raw input formats: files of rows (Parquet and the like), arrays, folders of pictures, and formats of a team's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from shardwright.errors import ConfigError, ShardwrightError
from shardwright.schema import suggest
from shardwright.sources.base import AT, BATCH_BYTES, REJECT, InputFile, Reader, Source, Task
from shardwright.sources.columns import Declaration
from shardwright.sources.csv import open_csv
from shardwright.sources.files import Paths, find_files
from shardwright.sources.idx import open_idx
from shardwright.sources.images import open_images
from shardwright.sources.jsonl import open_jsonl
from shardwright.sources.npy import open_npy, open_npz
from shardwright.sources.tables import open_tables
from shardwright.sources.text import open_text_files
from shardwright.sources.whole import open_any_files

_T = TypeVar("_T")

__all__ = [
    "AT",
    "BATCH_BYTES",
    "FORMATS",
    "REJECT",
    "SPARK_FORMATS",
    "InputFile",
    "Reader",
    "Source",
    "Task",
    "check_format",
    "open_source",
]

_OPENERS: dict[str, Callable[..., Source]] = {
    "csv": open_csv,
    "files": open_any_files,
    "idx": open_idx,
    "images": open_images,
    "jsonl": open_jsonl,
    "npy": open_npy,
    "npz": open_npz,
    "text": open_text_files,
}
"""Formats that cut their input themselves: called with the files, `fields`, `columns` and the options."""
_READERS: dict[str, str] = {
    "avro": "shardwright.sources.avro:AvroReader",
    "orc": "shardwright.sources.orc:OrcReader",
    "parquet": "shardwright.sources.parquet:ParquetReader",
    "sequencefile": "shardwright.sources.sequencefile:SequenceFileReader",
    "tfrecord": "shardwright.sources.tfrecord:TfrecordReader",
}
"""Formats of rows: the `Reader` of each, imported on use."""
FORMATS = tuple(sorted((*_OPENERS, *_READERS)))
"""The names of the formats."""
SPARK_FORMATS = ("sql", "table")
"""Inputs that Spark reads, in a prepare job."""


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
    kind = _load(_READERS.get(format, format))
    _check_options(format, kind, given)
    reader = _with_options(format, lambda: kind(**given))
    return open_tables(reader, find_files(paths), expected=f"{format} files", fields=fields, columns=columns)


def check_format(format: str) -> None:  # noqa: A002
    """Raise ConfigError unless `format` is known, or looks like "pkg.mod:Class"."""
    if format in (*FORMATS, *SPARK_FORMATS):
        return
    module, colon, name = format.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        known = suggest(format, (*FORMATS, *SPARK_FORMATS))
        raise ConfigError([f'no input format {format!r}; {known}, or your own reader as "pkg.mod:Class"'])


def _load(target: str) -> type[Reader]:
    """The class of a reader. Raises ConfigError for what can't be imported or is none; what its module raises goes through."""
    module, _, name = target.partition(":")
    where = f"read.format {target!r}"
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigError([f"{where}: no module {error.name!r}; is it on the Python path (--py-files)?"]) from error
        raise ConfigError([f"{where}: the module {module!r} needs one that is not installed: {error.name!r}"]) from error
    found = getattr(imported, name, None)
    if isinstance(found, type) and issubclass(found, Reader):
        return found
    readers = [key for key, value in sorted(vars(imported).items()) if isinstance(value, type) and issubclass(value, Reader)]
    readers = [key for key in readers if getattr(imported, key) is not Reader]
    what = f"has no {name!r}" if found is None else f"has {name!r}, but that is no subclass of shardwright.sources.Reader"
    offered = suggest(name, readers) if readers else "it has no readers"
    raise ConfigError([f"{where}: the module {module!r} {what}; {offered}"])


def _check_options(format: str, reader: type[Reader], given: Mapping[str, Any]) -> None:  # noqa: A002
    """Raise ConfigError for options that the reader does not have, and for those that it can't do without."""
    parameters = inspect.signature(reader).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    where = f"[read.options] of format {format!r}"
    problems = [
        f"{where}: no option {name!r}; {suggest(name, list(parameters)) if parameters else 'it has none'}"
        for name in given
        if name not in parameters
    ]
    missing = [name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in given]
    problems += [f"{where}: the option {name!r} is required" for name in missing]
    if problems:
        raise ConfigError(problems)


def _with_options(format: str, make: Callable[[], _T]) -> _T:  # noqa: A002
    try:
        return make()
    except ShardwrightError:
        raise
    except ValidationError as error:
        problems = [f"[read.options] {'.'.join(map(str, e['loc']))}: {e['msg']} (format {format!r})" for e in error.errors()]
        raise ConfigError(problems) from error
    except (TypeError, ValueError) as error:
        raise ConfigError([f"[read.options] of format {format!r}: {error}"]) from error
