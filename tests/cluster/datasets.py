"""Datasets on a test cluster, published without Spark."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shardwright.storage import open_writable


def put(folder: Path, url: str) -> None:
    """Copy a local dataset to `url`."""
    storage = open_writable(url)
    found = sorted(folder.rglob("*"))
    for path in (folder, *(path for path in found if path.is_dir())):
        storage.make_directory("" if path == folder else path.relative_to(folder).as_posix())

    def copy(path: Path) -> None:
        storage.write(path.relative_to(folder).as_posix(), path.read_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, [path for path in found if path.is_file()]))
