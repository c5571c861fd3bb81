"""The configuration of a prepare job: TOML, checked whole, every problem at once.

Each table's model stands beside the stage that owns it; here they are put together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardwright.errors import ConfigError
from shardwright.schema import NUMBERS, Schema, suggest
from shardwright.stages.clean import CleanOptions
from shardwright.stages.publish import PublishOptions
from shardwright.stages.read import ReadOptions
from shardwright.stages.shard import ShardOptions
from shardwright.stages.split import SplitOptions
from shardwright.stages.standardise import StandardiseOptions


class Recipe(BaseModel):
    """What is done to samples: everything that decides the result, apart from the input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: tuple[str, ...] = ()
    duplicate_keys: Literal["error", "keep"] = "error"
    clean: CleanOptions = CleanOptions()
    split: SplitOptions = SplitOptions()
    standardise: StandardiseOptions = StandardiseOptions()
    shard: ShardOptions
    task_bytes: int = Field(default=128 * 2**20, exclude=True)  # how the input is cut never changes the result

    def check(self, schema: Schema) -> None:
        """Raise ConfigError that lists every field named here that `schema` does not have, or that can't serve there."""
        named = {
            "read.key": self.key,
            "clean.range": tuple(self.clean.range),
            "split.group": (self.split.group,) if self.split.group else (),
            "split.column": (self.split.column,) if self.split.column else (),
            "standardise.fields": self.standardise.fields,
            "shard.compress": self.shard.compress,
        }
        problems = [
            f"{key}: no field {name!r}; {suggest(name, schema.names)}"
            for key, names in named.items()
            for name in names
            if name not in schema
        ]
        problems += [
            f"standardise.fields: {name!r} is {schema[name].dtype}; expected a field of numbers"
            for name in self.standardise.fields
            if name in schema and schema[name].dtype not in NUMBERS
        ]
        if problems:
            raise ConfigError(problems)


class Config(BaseModel):
    """A dataset: what is read, what is done to it, where it goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    read: ReadOptions
    clean: CleanOptions = CleanOptions()
    split: SplitOptions = SplitOptions()
    standardise: StandardiseOptions = StandardiseOptions()
    shard: ShardOptions
    publish: PublishOptions = PublishOptions()

    @property
    def output(self) -> str:
        """Where the dataset goes."""
        return self.publish.path or f"build/datasets/{self.name}"

    def recipe(self) -> Recipe:
        """What is done to the samples that are read."""
        return Recipe(
            key=self.read.key, duplicate_keys=self.read.duplicate_keys, clean=self.clean, split=self.split,
            standardise=self.standardise, shard=self.shard, task_bytes=self.read.task_bytes,
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
    for override in overrides:
        _override(values, override)
    if output is not None:
        table = values.setdefault("publish", {})
        if isinstance(table, dict):  # what else it is, the check says
            table["path"] = output
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError([_problem(str(path), dict(detail)) for detail in error.errors()]) from error


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
    for name in location:
        field = getattr(model, "model_fields", {}).get(name)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return list(model.model_fields) if model else []
