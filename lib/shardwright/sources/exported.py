"""Reading back what an export wrote: the file beside it that says what the values were as fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from shardwright.errors import InputError
from shardwright.format.features import FEATURES, Features
from shardwright.schema import Field
from shardwright.sources.base import InputFile
from shardwright.sources.inputs import read_beside


def exported_fields(file: InputFile, *, instead: str) -> tuple[Field, ...] | None:
    """What lies beside a file, or in a folder above it within the input; None where nothing does.

    Raises InputError for something else of that name; `instead` says what to do then, other than to remove it.
    """
    noted = read_beside(file, FEATURES)
    if noted is None:
        return None
    try:
        return Features.model_validate_json(noted[1]).fields
    except ValidationError as error:
        raise InputError(
            f"{noted[0]}: expected what shardwright's export writes, found something else ({error.errors()[0]['msg']}); "
            f"remove it, or {instead}"
        ) from error


def declaration(field: Field) -> Mapping[str, Any]:
    """An exported field as what a format knows of a column."""
    return field.model_dump(exclude={"name"})
