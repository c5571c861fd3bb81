"""Which names are data, and how messages show what there is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_SHOWN = 5
"""Names that a message lists before it only counts."""


def hidden(name: str) -> bool:
    """Whether a file or folder is left out where a folder is searched through."""
    return name.startswith((".", "_"))


def show_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def tell_folder(folder: str, names: Sequence[str], like: str = "") -> str:
    """What a folder holds, and which of its names somebody may have meant who wrote `like`."""
    near = difflib.get_close_matches(like, names, n=1)
    hint = f"did you mean {folder.rstrip('/')}/{near[0]}? " if near else ""
    return f"{hint}{folder} holds {show_names(names) if names else 'nothing'}"
