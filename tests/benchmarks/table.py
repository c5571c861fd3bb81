"""Medians with their range, and Markdown tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def spread(values: Iterable[float], digits: int = 1) -> str:
    """'median (smallest–largest)'."""
    ordered = sorted(values)
    low, middle, high = (f"{value:,.{digits}f}" for value in (ordered[0], statistics.median(ordered), ordered[-1]))
    return middle if low == high else f"{middle} ({low}–{high})"


def ratios(numerators: Sequence[float], denominators: Sequence[float], digits: int = 2) -> str:
    """The spread of the ratios, pair by pair: of two things that were measured one after the other."""
    return spread((a / b for a, b in zip(numerators, denominators, strict=True)), digits)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
