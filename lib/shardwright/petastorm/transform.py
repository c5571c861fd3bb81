"""`TransformSpec`: a user's function on rows or batches, and what it does to the schema.

Semantics: petastorm 0.13.1, ``transform.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from shardwright.petastorm.unischema import Unischema, UnischemaField, schema_name

EditField = tuple[str, Any, tuple[int | None, ...], bool]
"""Name, NumPy class, shape, nullable."""


def edit_field(name: str, numpy_dtype: Any, shape: tuple[int | None, ...], nullable: bool = False) -> EditField:
    """An entry of `TransformSpec`'s `edit_fields`."""
    return name, numpy_dtype, shape, nullable


class TransformSpec:
    """`func` takes what a worker decoded, and returns what is handed out.

    That is a dict for each row with `make_reader`, a pandas DataFrame for each row group with `make_batch_reader`. The schema
    loses `removed_fields` or all but `selected_fields` (in their order), and gets `edit_fields`, new ones or others of a name
    that exists. Raises ValueError where both of the former are given.
    """

    def __init__(
        self,
        func: Callable[[Any], Any] | None = None,
        edit_fields: Sequence[EditField | UnischemaField] | None = None,
        removed_fields: Sequence[str] | None = None,
        selected_fields: Sequence[str] | None = None,
    ) -> None:
        if removed_fields is not None and selected_fields is not None:
            raise ValueError("User can only specify one of removed_fields and selected_fields in TransformSpec.")
        self.func = func
        self.edit_fields = edit_fields or []
        self.removed_fields = removed_fields or []
        self.selected_fields = selected_fields


def transform_schema(schema: Unischema, transform_spec: TransformSpec) -> Unischema:
    """The schema of what a transform returns. Warns of names that `schema` does not have."""
    removed = set(transform_spec.removed_fields)
    _warn_unknown("remove_fields", removed - set(schema.fields))
    edited = [UnischemaField(*_name_dtype_shape(one), None, bool(_nullable(one))) for one in transform_spec.edit_fields]
    gone = removed | {field.name for field in edited}
    fields = [*(field for name, field in schema.fields.items() if name not in gone), *edited]
    if (selected := transform_spec.selected_fields) is not None:
        by_name = {field.name: field for field in fields}
        _warn_unknown("selected_fields", set(selected) - set(by_name))
        fields = [by_name[name] for name in selected if name in by_name]
    return Unischema(f"{schema_name(schema)}_transformed", fields)


def _name_dtype_shape(field: Any) -> tuple[Any, Any, Any]:
    return field[0], field[1], field[2]


def _nullable(field: Any) -> Any:
    return field.nullable if isinstance(field, UnischemaField) else field[3]


def _warn_unknown(what: str, names: set[str]) -> None:
    if names:
        warnings.warn(
            f"{what} specified some field names that are not part of the schema. These field names will be ignored "
            f'"{", ".join(sorted(names))}". ',
            stacklevel=3,
        )
