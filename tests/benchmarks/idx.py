"""The input of the prepare benchmarks: random unsigned bytes with labels, as two IDX files. Needs NumPy alone."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

_BYTES_AT_ONCE = 64 * 2**20
_CLASSES = 10


def write_idx(folder: Path, rows: int, shape: tuple[int, ...]) -> Path:
    """`rows` random images of `shape` and a label for each, always the same; the folder that holds the two files."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(rows)
    width = math.prod(shape)
    with open(folder / f"images-idx{1 + len(shape)}-ubyte", "wb") as file:
        file.write(_header((rows, *shape)))
        step = max(1, _BYTES_AT_ONCE // width)
        for start in range(0, rows, step):
            file.write(random.bytes(min(step, rows - start) * width))
    labels = random.integers(0, _CLASSES, rows, np.uint8)
    (folder / "labels-idx1-ubyte").write_bytes(_header((rows,)) + labels.tobytes())
    return folder


def map_idx(folder: Path) -> tuple[U8, U8]:
    """The images and the labels in `folder`, mapped into memory."""
    return _map(next(folder.glob("images-*"))), _map(next(folder.glob("labels-*")))


def into_page_cache(folder: Path) -> None:
    """Read every file of `folder` once, so that no contender waits for the disk."""
    for path in folder.iterdir():
        with open(path, "rb", buffering=0) as file:
            while file.read(_BYTES_AT_ONCE):
                pass


def _header(sizes: tuple[int, ...]) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes)


def _map(path: Path) -> U8:
    with open(path, "rb") as file:
        dimensions = file.read(4)[3]
        sizes = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
    return np.memmap(path, np.uint8, "r", offset=4 + 4 * dimensions, shape=sizes)
