"""The configuration of a prepare job: TOML, checked whole, every problem at once.

Each table's model stands beside the stage that owns it; here they are put together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardwright.errors import ConfigError
from shardwright.hashing.sortable import can_sort
from shardwright.schema import Schema, suggest
from shardwright.stages.clean import CleanOptions
from shardwright.stages.compress import CompressOptions
from shardwright.stages.map import MapOptions, load_function, mapped_schema
from shardwright.stages.publish import PublishOptions
from shardwright.stages.read import ReadOptions
from shardwright.stages.shard import ShardOptions
from shardwright.stages.split import SplitOptions
from shardwright.stages.standardise import StandardiseOptions, transformed


class Recipe(BaseModel):
    """What is done to samples: everything that decides the result, apart from the input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: tuple[str, ...] = ()
    duplicate_keys: Literal["error", "keep"] = "error"
    clean: CleanOptions = CleanOptions()
    map: tuple[MapOptions, ...] = ()
    split: SplitOptions = SplitOptions()
    standardise: StandardiseOptions = StandardiseOptions()
    compress: CompressOptions = CompressOptions()
    shard: ShardOptions
    task_bytes: int = Field(default=128 * 2**20, exclude=True)  # how the input is cut never changes the result

    def check(self, schema: Schema, splits: Sequence[str] = ()) -> Schema:
        """The fields of `schema`, the input's, after all functions of the team's own.

        `splits` are those that samples come with, where `split` does not say. Raises ConfigError that lists every field named
        here that there is not, or that can't serve there, and every function that can't be called.
        """
        problems = _unknown(schema, {"read.key": self.key, "clean.range": tuple(self.clean.range)})
        try:
            for options in self.map:
                schema = mapped_schema(schema, options)
        except ConfigError as error:
            problems += error.problems  # what follows can't be judged
        else:
            problems += self._downstream_problems(schema, splits)
        for options in self.map:
            try:
                load_function(options)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return schema

    def stored(self, schema: Schema) -> Schema:
        """What is stored of the fields of `schema`, those after all functions; a one-hot vector is yet of unknown length."""
        return Schema(fields=tuple(self.compress.stored(field) for field in self._standardised(schema)))

    def _standardised(self, schema: Schema) -> Schema:
        policies = self.standardise.at_write()
        fields = (transformed(field, policies[field.name]) if field.name in policies else field for field in schema)
        return Schema(fields=tuple(fields))

    def _downstream_problems(self, schema: Schema, splits: Sequence[str]) -> list[str]:
        """What is wrong with the tables that speak of the fields after all functions."""
        split, shard = self.split, self.shard
        one = {"split.group": split.group, "split.column": split.column, "split.stratify": split.stratify}
        named = {key: (name,) for key, name in one.items() if name is not None} | {"shard.order_by": shard.order_by}
        problems = _unknown(schema, named)
        if split.stratify is not None and split.stratify in schema and schema[split.stratify].shape:
            problems.append(f"split.stratify: {split.stratify!r} is an array; expected a field of one value")
        problems += [
            f"shard.order_by: {name!r} is {schema[name].dtype} {schema[name].shape or ''}; expected numbers, bools, timestamps "
            "or strings"
            for name in shard.order_by
            if name in schema and not can_sort(schema[name])
        ]
        if split.column is None:
            names = list(splits or split.fractions or ["train"])
            asked = [("shard.per_split", name) for name in shard.per_split]
            if self.standardise.policies or self.standardise.split != "train":
                asked.append(("standardise.split", self.standardise.split))
            problems += [f"{key}: no split {name!r}; {suggest(name, names)}" for key, name in asked if name not in names]
        problems += self.standardise.problems(schema)
        if problems:  # what a field is after standardising can't be said
            return problems + _unknown(schema, {"compress.fields": tuple(self.compress.fields)})
        return self.compress.problems(self._standardised(schema))


def _unknown(schema: Schema, named: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"{key}: no field {name!r}; {suggest(name, schema.names)}"
        for key, names in named.items()
        for name in names
        if name not in schema
    ]


class Config(BaseModel):
    """A dataset: what is read, what is done to it, where it goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    read: ReadOptions
    clean: CleanOptions = CleanOptions()
    map: tuple[MapOptions, ...] = ()
    split: SplitOptions = SplitOptions()
    standardise: StandardiseOptions = StandardiseOptions()
    compress: CompressOptions = CompressOptions()
    shard: ShardOptions
    publish: PublishOptions = PublishOptions()

    @property
    def output(self) -> str:
        """Where the dataset goes."""
        return self.publish.path or f"build/datasets/{self.name}"

    def recipe(self) -> Recipe:
        """What is done to the samples that are read."""
        return Recipe(
            key=self.read.key, duplicate_keys=self.read.duplicate_keys, clean=self.clean, map=self.map, split=self.split,
            standardise=self.standardise, compress=self.compress, shard=self.shard, task_bytes=self.read.task_bytes,
        )  # fmt: skip


def load_config(path: Path | str, overrides: Sequence[str] = (), *, output: str | None = None) -> Config:
    """The configuration in the TOML file at `path`, with `overrides` ("shard.count=8") applied; `output` replaces publish.path.

    Raises ConfigError that lists every problem, each with file, table and key, and what was expected.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: can't be read ({error.strerror}); expected a TOML file"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: expected UTF-8 text ({error})"]) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return make_config(values, overrides, output=output, where=str(path))


def make_config(values: dict[str, Any], overrides: Sequence[str], *, output: str | None, where: str) -> Config:
    """The configuration of these tables and keys, with `overrides` and `output` as in `load_config`.

    Raises ConfigError that lists every problem; `where` says in it what the values are.
    """
    for override in overrides:
        _override(values, override)
    if output is not None:
        table = values.setdefault("publish", {})
        if isinstance(table, dict):  # what else it is, the check says
            table["path"] = output
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError([_problem(where, dict(detail)) for detail in error.errors()]) from error


def publish_options(overrides: Sequence[str], output: str) -> PublishOptions:
    """How `output` is kept, for a job without a configuration: `overrides` are such as "publish.replication=3".

    Raises ConfigError.
    """
    values: dict[str, Any] = {"publish": {}}
    for override in overrides:
        if not override.startswith("publish.") or override.startswith("publish.path"):
            raise ConfigError(
                [f"--set {override}: expected publish.KEY=VALUE, such as publish.replication=3 (--output is the path)"]
            )
        _override(values, override)
    try:
        return PublishOptions.model_validate({**values["publish"], "path": output})
    except ValidationError as error:
        problems = [_problem("--set", {**detail, "loc": ("publish", *detail["loc"])}) for detail in error.errors()]
        raise ConfigError(problems) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    tables = key.strip().split(".")
    if not equals or not all(tables):
        raise ConfigError([f"--set {override}: expected TABLE.KEY=VALUE, such as shard.count=8"])
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set read.format=idx
    for table in tables[:-1]:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError([f"--set {override}: {table!r} is a value, not a table"])
    values[tables[-1]] = value


def _problem(path: str, detail: dict[str, Any]) -> str:
    location = [str(item) for item in detail["loc"]]
    table, key = ".".join(location[:-1]), location[-1] if location else ""
    where = f"{path}: [{table}] {key}" if table else f"{path}: {key}" if key else path
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key; {suggest(key, _known(location[:-1]))}"
    if detail["type"] == "missing":
        return f"{where}: missing; add it"
    message = _MESSAGES.get(detail["type"]) or str(detail["msg"]).removeprefix("Value error, ")
    given = detail.get("input")
    found = f", found {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    return f"{where}: {message[0].lower()}{message[1:]}{found}"


_MESSAGES = {"model_type": "expected a table", "dict_type": "expected a table", "tuple_type": "expected a list"}
"""What pydantic says in Python's words."""


def _known(location: Sequence[str]) -> list[str]:
    model: Any = Config
    for name in (each for each in location if not each.isdigit()):
        field = getattr(model, "model_fields", {}).get(name)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return list(model.model_fields) if model else []
