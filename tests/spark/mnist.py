"""The sample digits, as NumPy arrays and as input files of several shapes."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shardwright.config import Config
from tests.conftest import SAMPLES

MNIST = SAMPLES / "mnist"


def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (2000, 28, 28) and labels (2000,), read here by hand."""
    images = np.frombuffer(gzip.decompress((MNIST / "images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((MNIST / "labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    return images.reshape(-1, 28, 28), labels


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """An IDX file of unsigned bytes; gzip where the name says so."""
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def write_digits(folder: Path, rows: Sequence[npt.NDArray[np.int64]], names: Sequence[str]) -> Path:
    """The digits at `rows`, one pair of files for each, named by `names`."""
    folder.mkdir(parents=True)
    images, labels = digits()
    for name, own in zip(names, rows, strict=True):
        write_idx(folder / f"{name}-images-idx3-ubyte", images[own])
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels[own])
    return folder


def config(path: Path | str, output: Path, **tables: Any) -> Config:
    """conf/datasets/mnist.toml, from `path` to `output`, with tables replaced."""
    values: dict[str, Any] = {
        "name": "mnist",
        "read": {"format": "idx", "path": str(path)},
        "split": {"fractions": {"train": 0.9, "validation": 0.1}, "seed": 7},
        "standardise": {"fields": ["image"]},
        "shard": {"count": 4},
        "publish": {"path": str(output)},
    }
    return Config.model_validate(values | tables)


def tree(dataset: Path, version: str = "v000001") -> dict[str, bytes]:
    """Every file of a version that has to be the same for the same samples, by name."""
    root = dataset / version
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    named = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in named.items() if name != "_manifest.json" and not name.startswith("_quarantine")}
