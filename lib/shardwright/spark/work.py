"""What a job has to do: an input and a recipe, and what tells them from others."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructField

from shardwright.config import Recipe
from shardwright.errors import SchemaError
from shardwright.format.canonical import canonical_sha256
from shardwright.format.manifest import Compression, Input, Transform
from shardwright.schema import Schema
from shardwright.sources import Source
from shardwright.sources.columns import Asked, Declaration, declare, fits, infer, normal_type
from shardwright.spark.exchange import Exchange, SourceExchange, StagedExchange
from shardwright.spark.shuffled import ShuffledExchange
from shardwright.stages import Map
from shardwright.stages.clean import Clean
from shardwright.stages.map import UserMap, code_sha256
from shardwright.stages.publish import PIPELINE_VERSION, Published
from shardwright.stages.read import AddKeys
from shardwright.stages.shard import OrderBy, ShardPlan
from shardwright.stages.split import Split
from shardwright.storage import WritableStorage


class Work:
    """An input and a recipe. `input_schema` are the fields as read, `schema` those that are left by the recipe's own functions.

    `schema` says what the columns of a DataFrame hold, `described` where it is from; `asked` is what else was asked for than
    the recipe, without defaults, and `reader` a "pkg.mod:Class" of the team's own that reads; `splits` are those that samples
    come with, `paths` what was named to be read, as it was named. Raises ConfigError.
    """

    def __init__(
        self, data: Source | DataFrame, recipe: Recipe, name: str, *, schema: Schema | None = None,
        described: str = "a Spark DataFrame", asked: Mapping[str, Any] | None = None, reader: str | None = None,
        splits: Sequence[str] = (), paths: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.data = data
        self.paths = tuple(paths)
        self.recipe = recipe
        self.name = name
        if isinstance(data, DataFrame):
            self.input_schema = schema or frame_schema(data)
            self.sample_per_file = False
            self.inputs: tuple[Input, ...] = (Input(path=described),)
            self.inputs_sha256 = None
        else:
            self.input_schema = data.schema
            self.sample_per_file = data.sample_per_file
            self.inputs = tuple(Input(path=f.path, bytes=f.bytes, modified_ns=f.modified_ns) for f in data.files)
            self.inputs_sha256 = canonical_sha256([entry.model_dump() for entry in self.inputs])
        self.schema = recipe.check(self.input_schema, splits)
        self.splits = tuple(
            splits or recipe.split.fractions or ()
        )  # those that samples have to be in, as far as they are known before
        self.own_code = (*([reader] if reader else []), *(options.function for options in recipe.map))
        self.configuration = {**(asked or {}), **recipe.model_dump(mode="json")}
        # without defaults: an option that a later release adds does not make every dataset one of another configuration
        chosen = {**(asked or {}), **recipe.model_dump(mode="json", exclude_defaults=True)}
        fields = self.input_schema.model_dump(mode="json", exclude_defaults=True)
        self.configuration_sha256 = canonical_sha256([chosen, fields, *map(code_sha256, self.own_code)])

    places = ("read.path", "publish.path")
    """What input and output are called where somebody names them."""
    checksums = False
    """Whether the lineage gets checksums of the fields as they are read: for a recipe that changes no value."""
    fitted: tuple[Transform, ...] = ()
    """Transforms at write that the samples went through before."""

    def maps(self) -> tuple[Map, ...]:
        """The stages of the reading pass, in order."""
        recipe, schema = self.recipe, self.input_schema
        return (
            AddKeys(schema, key=recipe.key, sample_per_file=self.sample_per_file),
            Clean(schema, recipe.clean),
            *self._user_maps(),
            Split(self.schema, recipe.split),
            *([OrderBy(self.schema, recipe.shard.order_by)] if recipe.shard.order_by else []),
        )

    def _user_maps(self) -> list[UserMap]:
        """The team's own functions, in order. What they give back is checked as what was read, but for the ranges of fields."""
        check = functools.partial(Clean, options=self.recipe.clean.model_copy(update={"range": {}}))
        maps: list[UserMap] = []
        for options in self.recipe.map:
            maps.append(UserMap(maps[-1].schema if maps else self.input_schema, options, check))
        return maps

    def records(
        self,
        measured: Mapping[str, Compression],
        column_bytes: Mapping[str, int],  # noqa: ARG002
        plan: ShardPlan,  # noqa: ARG002
    ) -> dict[str, Compression]:
        """The manifest's records of compression: what was measured; `column_bytes` are those of each field in all parts."""
        return dict(measured)

    @property
    def attempt(self) -> str:
        """The name of the working directory: the same for the same work."""
        if self.inputs_sha256 is None:
            return uuid.uuid4().hex[:16]
        return canonical_sha256([self.configuration_sha256, self.inputs_sha256, PIPELINE_VERSION])[:16]

    def done_by(self, standing: Published) -> bool:
        """Whether a version is the result of this very work."""
        lineage = standing.manifest.lineage
        mine = (self.configuration_sha256, self.inputs_sha256, PIPELINE_VERSION)
        theirs = (lineage.configuration_sha256, lineage.inputs_sha256, lineage.pipeline_version)
        return self.inputs_sha256 is not None and mine == theirs and (bool(lineage.checksums) or not self.checksums)

    def exchange(self, directory: WritableStorage, *, one_host: bool) -> Exchange:
        """How samples get from pass to pass: from the input itself where it can be addressed and nothing changes them.

        `directory` is where they are staged else; `one_host` says that all tasks run on this machine.
        """
        near = directory.local_path() is not None
        if not isinstance(self.data, DataFrame) and self.data.addressable and not self.recipe.map and (near or one_host):
            return SourceExchange(self.data)
        return StagedExchange(directory) if near else ShuffledExchange(directory, self.schema)


def frame_schema(
    frame: DataFrame,
    fields: Mapping[str, Declaration] | None = None,
    columns: Sequence[str] | None = None,
    *,
    where: str = "the DataFrame",
) -> Schema:
    """What the columns of `frame` hold. Raises SchemaError for columns that are unknown, or that no field can hold."""
    types = {field.name: _arrow_type(field) for field in frame.schema}
    inferred = {}
    for name, kind in types.items():
        known = None if kind is None else infer(kind)
        inferred[name] = known if isinstance(known, Mapping) else frame.schema[name].dataType.simpleString()
    schema = declare(inferred, Asked(fields or {}, columns), where=where)
    for field in schema:
        kind = types[field.name]
        if kind is None or not fits(field, kind):
            found = frame.schema[field.name].dataType.simpleString()
            raise SchemaError(
                f"{where}: field {field.name!r} is declared {field.dtype} {field.shape}, which {found} can't hold"
            )
    return schema


def _arrow_type(field: StructField) -> pa.DataType | None:
    try:
        return normal_type(to_arrow_type(field.dataType))
    except Exception:  # noqa: BLE001 - Spark's types that Arrow does not have, whatever it raises for them
        return None
