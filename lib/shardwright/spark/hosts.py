"""Where the tasks of a job run, and what they can reach there."""

from __future__ import annotations

from collections.abc import Mapping

from shardwright.errors import ConfigError
from shardwright.storage.base import local_path_of


def on_one_host(master: str | None) -> bool:
    """Whether all tasks run on this machine, by Spark's master."""
    return master is not None and master.startswith("local")


def check_reachable(master: str | None, places: Mapping[str, str]) -> None:
    """Raise ConfigError for plain paths of this machine where tasks run on others; `places`: a path or URL -> what it is.

    A file:// URL is taken as said on purpose: it lies on a file system that all machines share.
    """
    if on_one_host(master):
        return
    problems = [
        f"{what}: expected an hdfs:// URL, since tasks run on other machines (master {master}), found the path {place}; "
        f"if they all see it, say so: file://{path.absolute()}"
        for place, what in places.items()
        if not place.startswith("file:") and (path := local_path_of(place)) is not None
    ]
    if problems:
        raise ConfigError(problems)
