"""`Unischema`: the fields of a dataset, as Petastorm names and orders them.

Semantics: petastorm 0.13.1, ``unischema.py``. Its Spark half (`as_spark_schema`, `dict_to_spark_row`) imports pyspark on use.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections import namedtuple
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from shardwright.petastorm.arrow_types import fields_of_arrow


class UnischemaField(NamedTuple):
    """One field: a name, a NumPy scalar class (or `decimal.Decimal`), a shape in which None varies, and how a value is stored.

    `codec` None is a native column of Parquet. Fields are equal where all but the codec is, as Petastorm has it.
    """

    name: str
    numpy_dtype: Any
    shape: tuple[int | None, ...]
    codec: Any = None
    nullable: bool | None = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and _identity(self) == _identity(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(_identity(self))


def _identity(field: Any) -> tuple[Any, ...]:
    return (field[0], field[1], field[2], field[4]) if len(field) == 5 else tuple(field)


class Unischema:
    """A name and fields, which are attributes too: ``MySchema.label``.

    A field that is named like a method of this class is reached by `fields` alone; there is a warning then.
    """

    def __init__(self, name: str, fields: Iterable[UnischemaField]) -> None:
        self._name = name
        self._fields = {field.name: field for field in fields}
        for field in self._fields.values():
            if hasattr(self, field.name):
                warnings.warn(
                    f"Can not create dynamic property {field.name} because it conflicts with an existing property of Unischema",
                    stacklevel=2,
                )
            else:
                setattr(self, field.name, field)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> UnischemaField: ...

    # No other public names than Petastorm's: each would hide a field that is called so.

    @property
    def fields(self) -> dict[str, UnischemaField]:
        """By name, in order."""
        return self._fields

    def create_schema_view(self, fields: Iterable[UnischemaField | str]) -> Unischema:
        """A schema of some of the fields: those given as such, in the order given, then those that a regular expression
        matches.

        A pattern has to match a whole name. Raises ValueError for a field that is not of this schema.
        """
        fields = list(fields)
        patterns = [field for field in fields if isinstance(field, str)]
        given = [field for field in fields if isinstance(field, tuple)]
        if len(patterns) + len(given) != len(fields):
            raise ValueError(
                'Elements of "fields" must be either a string (regular expressions) or an instance of UnischemaField class.'
            )
        unknown = [field.name for field in given if field.name not in self._fields]
        if unknown:
            raise ValueError(f"field {', '.join(unknown)} does not belong to the schema {self}")
        # The stored field, not the given one, whose codec and shape may be another.
        named = [self._fields[field.name] for field in given]
        return Unischema(f"{self._name}_view", [*named, *match_unischema_fields(self, patterns)])

    def make_namedtuple(self, **values: Any) -> Any:
        """A row: a namedtuple of all fields."""
        return self._get_namedtuple()(**values)

    def make_namedtuple_tf(self, *args: Any, **values: Any) -> Any:
        """A row of tensors."""
        return self._get_namedtuple()(*args, **values)

    def _get_namedtuple(self) -> type[Any]:
        return row_class(self)

    def as_spark_schema(self) -> Any:
        """The `pyspark.sql.types.StructType` of the stored columns. Raises ValueError for a field without a Spark type."""
        from shardwright.petastorm.spark.rows import spark_schema

        return spark_schema(self)

    @classmethod
    def from_arrow_schema(cls, parquet_dataset: Any, omit_unsupported_fields: bool = True) -> Unischema:
        """Of a plain Parquet store: its partition columns, then its native columns, in order.

        `parquet_dataset` has `pieces`, whose first one has `get_metadata()`, and `partitions` (`name`, `dictionary`). A column
        whose type has no NumPy class is left out with a warning, or raises ValueError.
        """
        arrow = parquet_dataset.pieces[0].get_metadata().schema.to_arrow_schema()
        partitions = {one.name: one.dictionary.type for one in parquet_dataset.partitions or []}
        found = fields_of_arrow(arrow, partitions, omit_unsupported=omit_unsupported_fields)
        return cls("inferred_schema", [UnischemaField(*field) for field in found])

    def __str__(self) -> str:
        lines = "".join(
            f"  {type(field).__name__}('{field.name}', {getattr(field.numpy_dtype, '__name__', field.numpy_dtype)}, "
            f"{field.shape}, {field.codec}, {field.nullable}),\n"
            for field in self._fields.values()
        )
        return f"{type(self).__name__}({self._name}, [\n{lines}])"


def schema_name(schema: Unischema) -> str:
    """What a Unischema is called."""
    return schema._name  # noqa: SLF001 - a public attribute would hide a field of that name


def row_class(schema: Unischema) -> type[Any]:
    """The namedtuple ``<name>_view``: the same class for the same name and fields, so that rows of two readers match."""
    return _row_class(f"{schema_name(schema)}_view", tuple(schema.fields))


@functools.lru_cache(maxsize=4096)
def _row_class(name: str, fields: tuple[str, ...]) -> type[Any]:
    return namedtuple(name, fields)  # noqa: PYI024 - its fields are known at run time


def match_unischema_fields(schema: Unischema, field_regex: Iterable[str]) -> list[UnischemaField]:
    """The fields whose whole name one of the patterns matches, in the schema's order.

    Warns where a pattern matches the beginning of a name alone: before petastorm 0.9 that was enough.
    """
    patterns = [re.compile(pattern) for pattern in field_regex]
    whole = [field for name, field in schema.fields.items() if any(one.fullmatch(name) for one in patterns)]
    begun = {name for name in schema.fields if any(one.match(name) for one in patterns)}
    if changed := sorted(begun ^ {field.name for field in whole}):
        warnings.warn(
            "schema_fields behavior has changed. Now, regular expression pattern must match the entire field name. "
            f"The change in the behavior affects the following fields: {', '.join(changed)}",
            stacklevel=2,
        )
    return whole


def dict_to_spark_row(unischema: Unischema, row_dict: Mapping[str, Any]) -> Any:
    """The `pyspark.Row` that stores a row given as a dict: each value encoded by its field's codec.

    Raises ValueError or TypeError for a value that its field does not allow.
    """
    from shardwright.petastorm.spark.rows import spark_row

    return spark_row(unischema, row_dict)


def insert_explicit_nulls(unischema: Unischema, row_dict: dict[str, Any]) -> None:
    """Give `row_dict`, in place, a None for each nullable field that it lacks.

    Raises ValueError where another one is lacking.
    """
    for name, field in unischema.fields.items():
        if name not in row_dict:
            if not field.nullable:
                raise ValueError(f"Field {name} is not found in the row_dict, but is not nullable.")
            row_dict[name] = None
