"""Which requests fetch many byte ranges of a file."""

from __future__ import annotations

from collections.abc import Iterable

REQUEST_BYTES = 8 * 2**20
"""What a request grows to when neighbours are merged: far more brings no more speed, and takes its memory all at once."""


def coalesce(spans: Iterable[tuple[int, int]], gap: int, limit: int = REQUEST_BYTES) -> list[tuple[int, int]]:
    """The requests [start, end) that fetch all of `spans`, ascending and disjoint; each span lies inside one of them.

    Neighbours at most `gap` bytes apart are fetched together, gap and all, while the request stays within `limit` bytes; spans
    that overlap always are, so a request can only be larger for their sake, or for that of one large span.
    """
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out:
            first, last = out[-1]
            if start < last or (start - last <= gap and end - first <= limit):
                out[-1] = first, max(last, end)
                continue
        out.append((start, end))
    return out
