"""What lies beside exported files, and says what their values were as fields: with it they come back equal."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from shardwright.schema import Field

FEATURES = "_features.json"
"""The file that holds a `Features`; its name begins with '_': it is no data."""


class Features(BaseModel):
    """What the values in exported files were as fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    fields: tuple[Field, ...]
