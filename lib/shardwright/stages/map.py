"""map: a team's own functions over batches of samples, as the reader gives them; whatever they do, no sample is lost.

What a function gives back is checked as samples from an input are, so that what follows always has samples of its schema.
"""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from shardwright.errors import ConfigError, EncodeError, MissingDependencyError
from shardwright.format.batch import Array, from_array, is_masked, mask_name, show, to_arrays
from shardwright.format.canonical import canonical_sha256
from shardwright.format.layout import KEY, sample_type
from shardwright.hashing.sample_key import fixed_bytes
from shardwright.schema import Field, Schema, suggest
from shardwright.stages import Map, Rejects

KEEP, REJECT = "_keep", "_reject"
_KEYS = "keys"
_MAX_REASON = 300
_Found = dict[int, tuple[str, str]]


class MapOptions(BaseModel):
    """A function, what it takes, and what it makes of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: str
    """As "pkg.mod:fn"; the module lies on the Python path of driver and executors (PYTHONPATH, --py-files)."""
    options: dict[str, Any] = {}
    """Keyword arguments of the function."""
    fields: dict[str, dict[str, Any]] = {}
    """The fields that it adds or makes something else of: dtype, shape, codec, nullable."""
    drop: tuple[str, ...] = ()
    """Fields that are left out after it."""
    decode: tuple[str, ...] = ()
    """Pictures that it gets decoded; the others are their encoded bytes."""

    @field_validator("function")
    @classmethod
    def _check_function(cls, function: str) -> str:
        module, colon, name = function.partition(":")
        if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise ValueError('expected "pkg.mod:fn", a module and a function in it')
        return function

    @property
    def where(self) -> str:
        """The beginning of a message about this table."""
        return f"[[map]] {self.function}"


def mapped_schema(schema: Schema, options: MapOptions) -> Schema:
    """The fields after the function. Raises ConfigError that lists every name that is unknown, reserved or taken."""
    problems = [f"drop: no field {name!r}; {suggest(name, schema.names)}" for name in options.drop if name not in schema]
    problems += [f"{name!r} is in fields and in drop; leave one out" for name in options.drop if name in options.fields]
    problems += [
        f"decode: {name!r} is no field of pictures; there are: {', '.join(field.name for field in schema if field.is_image)}"
        for name in options.decode
        if name not in schema or not schema[name].is_image
    ]
    made: dict[str, Field] = {field.name: field for field in schema if field.name not in options.drop}
    for name, declared in options.fields.items():
        try:
            made[name] = Field.model_validate({**declared, "name": name})
        except ValidationError as error:
            problems += [f"fields: {'.'.join(map(str, (name, *e['loc'])))}: {e['msg']}" for e in error.errors()]
    masks = {mask_name(field.name): field.name for field in [*schema, *made.values()] if is_masked(field)}
    problems += [
        f"field {masks[name]!r} can be null and its mask is called {name!r}, which is a field too; rename one"
        for name in masks
        if name in made or name in schema
    ]
    if not problems:
        try:
            return Schema(fields=tuple(made.values()))
        except ValidationError as error:
            problems = [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()]
    raise ConfigError([f"{options.where}: {problem}" for problem in problems])


def load_function(options: MapOptions) -> Callable[..., Any]:
    """The function. Raises ConfigError when it can't be imported, can't be called, or does not take the options."""
    module, _, name = options.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs the module
        known = f"; {suggest(name, _functions(module))}" if isinstance(error, AttributeError) else ""
        problem = f"can't be imported ({type(error).__name__}: {error}{known})"
        hint = "is the module on the Python path (PYTHONPATH or --py-files, as for spark-submit)?"
        raise ConfigError([f"{options.where}: {problem}; {hint}"]) from error
    if not callable(function):
        raise ConfigError([f"{options.where}: expected a function, found {type(function).__name__}"])
    if _KEYS in options.options:
        raise ConfigError([f"{options.where}: options: {_KEYS!r} is what sample keys are given as; rename the option"])
    try:
        inspect.signature(function).bind(None, **options.options, **({_KEYS: None} if _takes_keys(function) else {}))
    except TypeError as error:
        raise ConfigError([f"{options.where}: options: {error}"]) from error
    except ValueError:
        pass  # compiled functions may have no signature
    return function  # type: ignore[no-any-return]


def code_sha256(target: str) -> str | None:
    """A digest of the source of the module in "pkg.mod:name": other code makes other samples."""
    try:
        return canonical_sha256(inspect.getsource(importlib.import_module(target.partition(":")[0])))
    except (OSError, TypeError):
        return None  # compiled


class UserMap:
    """Runs one function over batches in the types of `layout.sample_type`, and checks what comes back.

    `check` makes the stage that checks fields as read and brings them into these types. Where the function fails for a batch,
    it is run for halves of it, down to the samples that it fails for: these are rejected.
    """

    name = "map"

    def __init__(self, schema: Schema, options: MapOptions, check: Callable[[Schema], Map]) -> None:
        self._before, self.schema = schema, mapped_schema(schema, options)
        self._options, self._check = options, check
        self._function: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_function": None}  # executors import it themselves

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Rejects]:
        """The samples that come back, and those that the function refused or that are not what they should be."""
        found: _Found = {}
        parts = [self._empty(batch), *self._run(batch, 0, found)]
        out = parts[1] if len(parts) == 2 else pa.concat_batches(parts)
        rows = sorted(found)
        filtered = batch.num_rows - out.num_rows - len(rows)
        return out, Rejects(rows, [found[row][0] for row in rows], [found[row][1] for row in rows], filtered)

    def _run(self, batch: pa.RecordBatch, first: int, found: _Found) -> Iterator[pa.RecordBatch]:
        if not batch.num_rows:
            return
        self._function = self._function or load_function(self._options)
        try:
            yield self._apply(self._function, batch, first, found)
        except MissingDependencyError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the team's code does, it is the sample that is at stake
            if batch.num_rows == 1:
                found[first] = "", self._told(error)
                return
            half = batch.num_rows // 2
            yield from self._run(batch.slice(0, half), first, found)
            yield from self._run(batch.slice(half), first + half, found)

    def _apply(self, function: Callable[..., Any], batch: pa.RecordBatch, first: int, found: _Found) -> pa.RecordBatch:
        given = self._arrays(batch)
        keys = {_KEYS: fixed_bytes(batch[KEY]).copy()} if _takes_keys(function) else {}
        result = self._named(function(dict(given), **self._options.options, **keys), given)
        for name, array in result.items():
            _check_rows(name, array, batch.num_rows)
        reasons = _reasons(result.pop(REJECT, None))
        keep = _flags(KEEP, result.pop(KEEP, np.ones(batch.num_rows, bool)))
        rows = np.array([row for row in np.flatnonzero(keep).tolist() if row not in reasons], np.int64)
        changed = Schema.model_construct(fields=tuple(field for field in self.schema if self._is_changed(field, result, given)))
        columns = {field.name: _column(field, result, given).take(pa.array(rows)) for field in changed}
        if columns:
            checked, bad = self._check(changed)(pa.RecordBatch.from_pydict(columns))
            columns = {name: checked[name] for name in columns}
            told = zip(bad.fields, bad.reasons, strict=True)
            reasons |= dict(zip(rows[bad.rows].tolist(), told, strict=True))
            rows = np.delete(rows, bad.rows)
        found |= {first + row: (field, f"{self._options.function}: {reason}") for row, (field, reason) in reasons.items()}
        kept = batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))
        passed = [name for name in kept.schema.names if name.startswith("_")]
        arrays = [columns[name] if name in columns else kept[name] for name in self.schema.names]
        return pa.RecordBatch.from_arrays([*arrays, *(kept[name] for name in passed)], [*self.schema.names, *passed])

    def _arrays(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """What the function gets: the arrays of a reader's batch; pictures that are not to be decoded are their bytes."""
        out: dict[str, Array] = {}
        for field in self._before:
            if field.is_image and field.name not in self._options.decode:
                out[field.name] = np.empty(batch.num_rows, object)
                out[field.name][:] = batch[field.name].to_pylist()
            else:
                out |= to_arrays(field, batch[field.name])
        for name in self._options.decode:
            for array in [out[name]] if out[name].dtype != object else [a for a in out[name] if a is not None]:
                array.flags.writeable = False  # they can't go back as arrays, so a change would be lost
        return out

    def _named(self, result: object, given: Mapping[str, Array]) -> dict[str, Any]:
        """What came back, with names that are known and nothing left out that was declared."""
        if not isinstance(result, Mapping):
            raise _WrongError(f"expected a dict of arrays, found {type(result).__name__}")
        masks = {mask_name(field.name) for field in self.schema if is_masked(field)}
        known = {*self.schema.names, *masks, *given, KEEP, REJECT}
        for name in result:
            if name not in known:
                raise _WrongError(f"it returned {name!r}, which is no field; declare it in map.fields, or leave it out")
        for name in self._options.fields:
            if name not in result:
                found_names = ", ".join(map(repr, result)) or "nothing"
                raise _WrongError(f"expected the field {name!r} among what it returns, found {found_names}")
        return dict(result)

    def _is_changed(self, field: Field, result: Mapping[str, Any], given: Mapping[str, Array]) -> bool:
        """Whether the field is among what came back; decoded pictures that come back as they were are not."""
        if field.is_image and field.name in self._options.decode and result.get(field.name) is given[field.name]:
            return False
        return field.name in result or (is_masked(field) and mask_name(field.name) in result)

    def _empty(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {field.name: pa.nulls(0, sample_type(field)) for field in self.schema}
        passed = {name: batch[name].slice(0, 0) for name in batch.schema.names if name.startswith("_")}
        return pa.RecordBatch.from_pydict(columns | passed)

    def _told(self, error: BaseException) -> str:
        """The last line of the traceback, and which line of the team's code it comes from."""
        if isinstance(error, (_WrongError, EncodeError)):
            return f"{self._options.function}: {error}"
        text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        frames = list(traceback.walk_tb(error.__traceback__))
        package = self._options.function.partition(":")[0].partition(".")[0]
        own = [frame for frame in frames if str(frame[0].f_globals.get("__name__")).partition(".")[0] == package]
        frame, line = (own or frames)[-1]
        file = frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
        return f"{self._options.function}: {text[:_MAX_REASON]} ({file}:{line})"


class _WrongError(Exception):
    """What a function returned is not what it should be."""


def _takes_keys(function: Callable[..., Any]) -> bool:
    try:
        return _KEYS in inspect.signature(function).parameters
    except ValueError:
        return False


def _functions(module: str) -> list[str]:
    found = importlib.import_module(module)
    return [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]


def _check_rows(name: str, array: object, rows: int) -> None:
    if not isinstance(array, np.ndarray):
        raise _WrongError(f"expected a NumPy array in {name!r}, found {type(array).__name__}")
    if not array.ndim or len(array) != rows:
        raise _WrongError(f"expected {rows} rows in {name!r}, found {array.shape[0] if array.ndim else 'a scalar'}")


def _flags(name: str, array: Array) -> Array:
    if array.dtype != bool or array.ndim != 1:
        raise _WrongError(f"expected bool of shape (n,) in {name!r}, found {show(array)}")
    return array


def _reasons(array: Array | None) -> _Found:
    if array is None:
        return {}
    values = {row: reason for row, reason in enumerate(array.tolist()) if reason is not None}
    for reason in values.values():
        if not isinstance(reason, str):
            raise _WrongError(f"expected a str or None for each sample in {REJECT!r}, found {type(reason).__name__}")
    return {row: ("", reason) for row, reason in values.items()}


def _column(field: Field, result: Mapping[str, Any], given: Mapping[str, Array]) -> pa.Array:
    """A field of what came back as an Arrow column as read; the mask stays what it was where none came back."""
    array = result[field.name] if field.name in result else given.get(field.name)
    if array is None:
        raise _WrongError(f"expected {field.name!r} together with its mask")
    if not is_masked(field):
        return from_array(field, array)
    name = mask_name(field.name)
    return from_array(field, array, _flags(name, result.get(name, given.get(name, np.zeros(len(array), bool)))))
