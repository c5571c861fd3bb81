"""Functions of a team's own that go wrong."""

from __future__ import annotations

import os
from typing import Any


def no_sevens(batch: dict[str, Any]) -> dict[str, Any]:
    if (batch["label"] == 7).any():
        raise ValueError("no sevens")
    return {}


def die(batch: dict[str, Any]) -> dict[str, Any]:
    os._exit(3)


def nothing(batch: dict[str, Any]) -> dict[str, Any]:
    return {"_keep": batch["id"] < 0}
