"""Raw input formats: files of rows (Parquet and the like), arrays, folders of pictures, and formats of a team's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shardwright.errors import ConfigError, ShardwrightError
from shardwright.schema import suggest
from shardwright.sources.base import AT, BATCH_BYTES, REJECT, InputFile, Reader, Source, Task
from shardwright.sources.columns import Asked, Declaration
from shardwright.sources.csv import CsvOptions, open_csv
from shardwright.sources.files import Paths, find_files
from shardwright.sources.idx import open_idx
from shardwright.sources.images import ImagesOptions, open_images
from shardwright.sources.inputs import open_input
from shardwright.sources.jsonl import open_jsonl
from shardwright.sources.lines import TextOptions
from shardwright.sources.npy import NpyOptions, open_npy, open_npz
from shardwright.sources.tables import open_tables
from shardwright.sources.text import PlainTextOptions, open_text_files
from shardwright.sources.whole_files import open_any_files

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
    "open_input",
    "open_source",
]

_OPENERS: dict[str, tuple[Callable[..., Source], type[BaseModel] | None]] = {
    "csv": (open_csv, CsvOptions),
    "files": (open_any_files, None),
    "idx": (open_idx, None),
    "images": (open_images, ImagesOptions),
    "jsonl": (open_jsonl, TextOptions),
    "npy": (open_npy, NpyOptions),
    "npz": (open_npz, None),
    "text": (open_text_files, PlainTextOptions),
}
"""Formats that cut their input themselves: called with the files, what is asked of them, and the options, if there are any."""
_READERS: dict[str, str] = {
    "avro": "shardwright.sources.avro:AvroReader",
    "orc": "shardwright.sources.orc:OrcReader",
    "parquet": "shardwright.sources.parquet:ParquetReader",
    "petastorm": "shardwright.sources.petastorm:PetastormReader",
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
    rename: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Find the files of an input and look at their headers.

    `format` is one of `FORMATS`, or names a `Reader` as "pkg.mod:Class". `fields` declares dtype, shape, codec and nullability
    of fields by name, over what the format says; `columns` names the only fields to read, in that order; `rename` gives fields
    other names than their columns have, new name to old, and all else goes by the new ones; `options` are the format's own.

    Raises ConfigError for an unknown format or option, InputError for files that are not what they claim to be,
    InputNotFoundError where there is nothing to read, SchemaError for fields that can't be.
    """
    check_format(format)
    given = dict(options or {})
    asked = Asked(fields or {}, columns, rename or {})
    if format in _OPENERS:
        opener, model = _OPENERS[format]
        _check_known(format, list(model.model_fields) if model else [], given)
        checked = [_with_options(format, lambda: model(**given))] if model else []
        return opener(find_files(paths), asked, *checked)
    kind = _load(_READERS.get(format, format))
    _check_parameters(format, kind, given)
    reader = _with_options(format, lambda: kind(**given))
    return open_tables(reader, find_files(paths), asked, expected=f"{format} files")


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


def _check_parameters(format: str, reader: type[Reader], given: Mapping[str, Any]) -> None:  # noqa: A002
    """Raise ConfigError for options that the reader does not have, and for those that it can't do without."""
    parameters = inspect.signature(reader).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    _check_known(format, list(parameters), given, needed)


def _check_known(format: str, known: list[str], given: Mapping[str, Any], needed: Sequence[str] = ()) -> None:  # noqa: A002
    where = f"[read.options] of format {format!r}"
    unknown = [name for name in given if name not in known]
    problems = [f"{where}: no option {name!r}; {suggest(name, known) if known else 'it has none'}" for name in unknown]
    problems += [f"{where}: the option {name!r} is required" for name in needed if name not in given]
    if problems:
        raise ConfigError(problems)


def _with_options(format: str, make: Callable[[], _T]) -> _T:  # noqa: A002
    try:
        return make()
    except ShardwrightError:
        raise
    except ValidationError as error:
        raise ConfigError([f"[read.options] of format {format!r}: {_problem(dict(one))}" for one in error.errors()]) from error
    except (TypeError, ValueError) as error:
        raise ConfigError([f"[read.options] of format {format!r}: {error}"]) from error


def _problem(detail: dict[str, Any]) -> str:
    """What pydantic found wrong with an option, in our words."""
    key = ".".join(map(str, detail["loc"]))
    message = "no such option" if detail["type"] == "extra_forbidden" else str(detail["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
