"""Local files that are written before they go to a remote storage."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardwright.errors import StorageError


@contextmanager
def scratch_file(name: str, destination: str) -> Iterator[Path]:
    """The path of a local file called `name`, which is removed afterwards.

    In a YARN container it lies in the container's own directory, which YARN removes whatever becomes of the process, and on
    the disks that YARN manages; elsewhere where TMPDIR says. Raises StorageError when there is no space for it.
    """
    parent = Path.cwd() if "CONTAINER_ID" in os.environ else Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory(prefix="shardwright-", dir=parent) as directory:
            yield Path(directory, name)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(
            f"no space left in {parent} on this machine, where {destination} is written before it is uploaded: each task needs "
            "as much as a part takes (shard.part_bytes); free space, set TMPDIR to another disk (for YARN's containers: "
            "yarn.nodemanager.local-dirs), or run fewer tasks at once"
        ) from error
