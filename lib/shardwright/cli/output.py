"""How the verbs write: plain text where nobody watches, so that it can be piped."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 1000
"""A table that nobody watches is not cut to the width of a terminal."""


def out() -> Console:
    """A console for stdout; made anew by each verb, since tests and pipes exchange stdout."""
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


def table(*names: str, title: str | None = None) -> Table:
    """An empty table with these columns."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name in names:
        made.add_column(name, no_wrap=True)
    return made


def size(count: int) -> str:
    """Bytes as people read them: 2,348,112 -> '2.2 MiB'."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis: what was looked at, what was found, and what to do about it."""

    level: Literal["ok", "warning", "problem"]
    about: str
    found: str
    advice: str = ""
